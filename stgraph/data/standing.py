"""Slices that stand in a corpus already: which of them need not be made again."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from stgraph.data.arrays import sha256_of
from stgraph.data.documents import fingerprint, write_document
from stgraph.data.manifest import GENES, RECORDS, SHARDS, SliceRecord, read_genes, read_record
from stgraph.data.shards import Shard
from stgraph.data.sources import Scan
from stgraph.errors import StoreError


@dataclass(frozen=True)
class Standing:
    """What stands in the folder of a corpus.

    Attributes
    ----------
    folder
        Of the corpus.
    units
        Files that are given now, with the microns per unit that the user told.
    """

    folder: Path
    units: Mapping[str, float | None]

    def records(self) -> Iterator[SliceRecord]:
        """All that can be read, also those that are not to be trusted: their slices keep their names."""
        for path in sorted((self.folder / RECORDS).glob("*.json")):
            try:
                record = read_record(path)
            except StoreError:
                continue
            if record.slice_id == path.stem:
                yield record

    def trusted(self, recipe: str) -> dict[str, SliceRecord]:
        """Records of the slices that need not be made again, by name.

        Parameters
        ----------
        recipe
            Fingerprint of what shapes a shard now.
        """
        genes = read_genes(self.folder) if (self.folder / GENES).is_file() else []
        prefixes: dict[int, str] = {}
        trusted: dict[str, SliceRecord] = {}
        for record in self.records():
            count = int(record.genes["count"])
            if count not in prefixes:
                prefixes[count] = fingerprint(genes[:count])
            if (
                record.recipe == recipe
                and (count <= len(genes) and prefixes[count] == record.genes["sha256"])
                and self._shard_is_whole(record)
                and self._source_is_same(record)
            ):
                trusted[record.slice_id] = record
        return trusted

    def complete_files(self, records: Mapping[str, SliceRecord]) -> dict[str, list[str]]:
        """Files given now of which every slice is among these records, with the names of the slices."""
        made: dict[str, list[SliceRecord]] = {}
        for record in records.values():
            made.setdefault(record.source.path, []).append(record)
        return {
            path: [record.slice_id for record in within]
            for path, within in made.items()
            if path in self.units and {record.source.section for record in within} == set(within[0].source.sections)
        }

    def follow_moved(self, scans: Mapping[str, Scan], records: dict[str, SliceRecord]) -> None:
        """See that a file that was built from another place, or by another name, and is the same, is no new one.

        Parameters
        ----------
        scans
            Files given now that are not complete.
        records
            Those to be trusted; changed, here and in the folder.
        """
        away: dict[tuple[str, str], list[SliceRecord]] = {}
        for record in records.values():
            if record.source.path not in self.units:
                away.setdefault((record.source.path, record.source.sha256), []).append(record)
        for path, found in scans.items():
            stat = Path(path).stat()
            alike = [
                at
                for at, (first, *_) in away.items()
                if (first.source.bytes, first.source.um_per_unit) == (stat.st_size, self.units[path])
            ]
            sha256 = sha256_of(path) if alike else ""
            same = next((at for at in alike if at[1] == sha256), None)
            if same is None:
                continue
            for record in away.pop(same):  # by one file only: two that are equal stay two
                # A slice that nobody named is called after its file in the scan, which may be renamed.
                called = dict(zip(record.source.sections, found.sections, strict=True))
                source = replace(
                    record.source,
                    path=path,
                    mtime_ns=stat.st_mtime_ns,
                    section=called[record.source.section],
                    sections=list(found.sections),
                )
                records[record.slice_id] = replace(record, source=source)
                write_document(self.folder / RECORDS / f"{record.slice_id}.json", asdict(records[record.slice_id]))

    def _shard_is_whole(self, record: SliceRecord) -> bool:
        path = self.folder / SHARDS / record.shard
        try:
            return path.stat().st_size == record.bytes and Shard(path).seal == record.seal
        except (StoreError, OSError):
            return False

    def _source_is_same(self, record: SliceRecord) -> bool:
        """Whether the file, if it is given now, is the one of then."""
        source, path = record.source, Path(record.source.path)
        if source.path not in self.units:
            return True
        if self.units[source.path] != source.um_per_unit or not path.is_file():
            return False
        stat = path.stat()
        if (stat.st_size, stat.st_mtime_ns) == (source.bytes, source.mtime_ns):
            return True
        return stat.st_size == source.bytes and sha256_of(path) == source.sha256
