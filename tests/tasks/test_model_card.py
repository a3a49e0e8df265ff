import pytest
import yaml

import stgraph
from stgraph.errors import InputError
from stgraph.tasks.model_card import card_facts, model_card

PARTS = {
    "encoder": {"_target_": "stgraph.preprocess.encoder.LogPCA", "n_components": 4},
    "virtual_cells": None,
    "model": {"_target_": "lab.nets.Net", "layers": [{"_target_": "other.Layer"}], "depth": 2},
    "domains": None,
}
GENES = ["MBP", "PLP1", "GFAP", "SST"]


def card(info=None, parts=PARTS, folder="mine"):
    return model_card(folder, parts, info or {}, genes=GENES, num_weights=12345)


def front(text):
    """What the hub reads: the YAML between the first two lines of three dashes."""
    empty, matter, _ = text.split("---\n", 2)
    assert empty == ""
    return yaml.safe_load(matter)


def section(text, title):
    return text.split(f"## {title}\n")[1].split("\n## ")[0]


def test_what_the_hub_reads():
    assert front(card()) == {
        "library_name": "stgraph",
        "license": "unknown",
        "tags": ["spatial-transcriptomics", "single-cell", "graph-neural-network", "biology"],
    }
    assert front(card({"card": {"licence": "cc-by-4.0"}}))["license"] == "cc-by-4.0"


def test_what_is_not_known_is_said():
    text = card()
    assert "What it was trained on is not recorded." in text
    assert "None are recorded." in section(text, "Scores")
    limits = section(text, "Limits")
    assert "Its licence is not known" in limits
    assert "No score of it is recorded" in limits
    assert "It finds no domains" in limits
    assert "parts of other packages (lab, other), which must be installed and trusted" in limits
    assert "names of the same kind as `MBP`, `PLP1`, `GFAP`." in limits


def test_what_is_known_is_said():
    facts = card_facts({}, name="lab/cortex", licence="mit", data="Three cortices.", metrics={"ARI": 0.123456})
    info = {"card": facts, "slices": ["a", "b"], "num_cells": 4321, "settings": {"trainer": {"max_steps": 7}}}
    text = card(info, PARTS | {"domains": {"_target_": "stgraph.tasks.domains.MixtureDomains"}})
    assert "# lab/cortex\n" in text
    assert "its network has 12,345 weights; it reads 4 genes" in text.lower()
    assert "| counts of a cell to its features | `stgraph.preprocess.encoder.LogPCA` |" in text
    assert "Three cortices." in section(text, "Data")
    assert "Slices it was trained on: 2, 4,321 cells together: `a`, `b`." in text
    assert "| ARI | 0.1235 |" in section(text, "Scores")
    assert yaml.safe_load(section(text, "Settings").strip().strip("`").removeprefix("yaml")) == info["settings"]
    for unsaid in ("not recorded", "No score", "licence is not known", "finds no domains", "one slice"):
        assert unsaid not in text


def test_one_slice_is_a_limit():
    assert "It was trained on one slice" in card({"slices": ["a"]})


def test_many_slices_are_counted():
    text = section(card({"slices": [f"s{i}" for i in range(30)]}), "Data")
    assert "trained on: 30:" in text
    assert "`s19` and 10 more" in text
    assert "s20" not in text


def test_it_loads_in_three_lines():
    code = section(card({"card": {"name": "lab/cortex"}}), "Use").split("```python\n")[1].split("```")[0]
    assert len(code.splitlines()) == 3
    assert "stgraph.embed(adata, 'lab/cortex', trust=['lab', 'other'])" in code
    compile(code, "card", "exec")


def test_texts_of_others_stay_texts():
    """Of slices, scores and settings, whatever they are called."""
    nasty = "a`b | c\n## Limits\n---"
    facts = card_facts({}, metrics={nasty: 1})
    text = card({"card": facts, "slices": [nasty], "settings": {"encoder": "```\n# no\n````"}}, folder=nasty)
    assert [line for line in text.splitlines() if line == "## Limits"] == ["## Limits"]
    assert "| a'b \\| c ## Limits --- | 1 |" in text
    assert front(text)["library_name"] == "stgraph"
    assert text.count("`````") == 2


@pytest.mark.parametrize("licence", ["MIT", "mit\ntags: [x]", "", "my own"])
def test_licences_are_those_of_the_hub(licence):
    with pytest.raises(InputError, match="is not written as the hub does: 'mit'"):
        card_facts({}, licence=licence)


def test_the_licence_that_weights_carry():
    facts = card_facts({"card": {"licence": "mit"}}, carried=["no `trade` |\n## and no profit"])
    text = card({"card": facts})
    assert front(text)["license"] == "other"
    assert "Its weights come with a licence: no 'trade' \\| ## and no profit." in section(text, "Limits")
    assert "licence is not known" not in text
    assert card_facts({}, licence="other", carried=["none"])["licence"] == "other"
    with pytest.raises(InputError, match=r"The weights carry a licence \(none\), so the model cannot be given 'mit'"):
        card_facts({}, licence="mit", carried=["none"])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), True, "0.5"])
def test_scores_are_numbers(value):
    with pytest.raises(InputError, match="score 'ARI' of the model card must be a finite number"):
        card_facts({}, metrics={"ARI": value})


def test_facts_are_remembered_and_replaced_one_by_one(fitted, tmp_path):
    fitted.pretrained.save_pretrained(tmp_path / "a", name="lab/a", licence="mit", data="Tissue.", metrics={"ARI": 1})
    again = stgraph.from_pretrained(tmp_path / "a")
    again.save_pretrained(tmp_path / "b", licence="cc0-1.0")
    text = (tmp_path / "b" / "README.md").read_text()
    assert front(text)["license"] == "cc0-1.0"
    assert "# lab/a\n" in text
    assert "Tissue." in text
    assert "| ARI | 1 |" in text
    assert "card" not in fitted.pretrained.info


def test_the_card_of_a_trained_model(fitted, tmp_path):
    fitted.pretrained.save(tmp_path / "cortex")
    text = (tmp_path / "cortex" / "README.md").read_text()
    weights = sum(weight.numel() for weight in fitted.pretrained.model.parameters())
    assert "# cortex\n" in text
    assert f"{weights:,} weights" in text
    assert "2, 640 cells together: `synthetic_0`, `synthetic_1`" in text
    settings = yaml.safe_load(section(text, "Settings").strip().strip("`").removeprefix("yaml"))
    assert settings["trainer"]["max_steps"] == 12
    assert "packages" not in text
