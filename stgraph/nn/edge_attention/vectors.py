"""Dot products and sums of short float32 vectors inside compiled loops, whatever type they are stored in.

Numba leaves the inner loops over channels to LLVM, which guards each of them against arrays that overlap; with
heads of 32 channels the guards take longer than the arithmetic. These are the vector instructions themselves.
Numba has no half precision on the CPU: arrays of ``uint16`` stand for bfloat16 and of ``int16`` for float16 here,
and are widened to float32 in registers.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_FLOAT = ir.FloatType()
_LANES = 16
"""Widest vector asked for; LLVM splits it where the processor has narrower ones."""


@intrinsic(prefer_literal=True)
def dot(typingctx, a, at_a, b, at_b, width):  # type: ignore[no-untyped-def]
    """Sum of ``a[at_a + i] * b[at_b + i]`` over ``width`` elements, a compile-time constant."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        (type_a, _, type_b, _, _), (a, at_a, b, at_b, _) = signature.args, args
        total = ir.Constant(_FLOAT, 0.0)
        running: dict[int, Any] = {}
        for first, lanes in _pieces(width.literal_value):
            x = _load(context, builder, type_a, a, at_a, first, lanes)
            y = _load(context, builder, type_b, b, at_b, first, lanes)
            before = running.get(lanes)
            running[lanes] = builder.fmul(x, y) if before is None else _fma(builder, x, y, before)
        for lanes, vector in running.items():
            reduce = _declared(builder, f"llvm.vector.reduce.fadd.v{lanes}f32", _FLOAT, [_FLOAT, vector.type])
            total = builder.call(reduce, [total, vector], fastmath=("reassoc",))
        return total

    return types.float32(a, types.intp, b, types.intp, width), generate


@intrinsic(prefer_literal=True)
def add_scaled(typingctx, total, at_total, factor, x, at_x, width):  # type: ignore[no-untyped-def]
    """``total[at_total + i] += factor * x[at_x + i]``; ``total`` is float32."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        (type_total, _, _, type_x, _, _), (total, at_total, factor, x, at_x, _) = signature.args, args
        for first, lanes in _pieces(width.literal_value):
            before = _load(context, builder, type_total, total, at_total, first, lanes)
            piece = _load(context, builder, type_x, x, at_x, first, lanes)
            after = _fma(builder, _spread(builder, factor, lanes), piece, before)
            _store(context, builder, type_total, total, at_total, first, after)
        return context.get_dummy_value()

    return types.void(total, types.intp, types.float32, x, types.intp, width), generate


@intrinsic(prefer_literal=True)
def put_scaled(typingctx, target, at_target, factor, x, at_x, width):  # type: ignore[no-untyped-def]
    """``target[at_target + i] = factor * x[at_x + i]``, rounded to the type that ``target`` stands for."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        (type_target, _, _, type_x, _, _), (target, at_target, factor, x, at_x, _) = signature.args, args
        for first, lanes in _pieces(width.literal_value):
            piece = _load(context, builder, type_x, x, at_x, first, lanes)
            scaled = builder.fmul(piece, _spread(builder, factor, lanes))
            _store(context, builder, type_target, target, at_target, first, scaled)
        return context.get_dummy_value()

    return types.void(target, types.intp, types.float32, x, types.intp, width), generate


def _pieces(width: int) -> list[tuple[int, int]]:
    """(first, lanes) of vectors of 16, 8, 4, 2 and 1 lanes that cover ``width`` elements."""
    pieces, first, lanes = [], 0, _LANES
    while first < width:
        while lanes > width - first:
            lanes //= 2
        pieces.append((first, lanes))
        first += lanes
    return pieces


def _vector(element: Any, lanes: int) -> Any:
    return ir.VectorType(element, lanes)


def _place(context: Any, builder: Any, array_type: Any, array: Any, start: Any, first: int, vector: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    index = builder.add(start, ir.Constant(start.type, first))
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


def _load(context: Any, builder: Any, array_type: Any, array: Any, start: Any, first: int, lanes: int) -> Any:
    wide = _vector(_FLOAT, lanes)
    if array_type.dtype == types.float32:
        return builder.load(_place(context, builder, array_type, array, start, first, wide), align=4)
    narrow = _vector(ir.IntType(16), lanes)
    raw = builder.load(_place(context, builder, array_type, array, start, first, narrow), align=2)
    if array_type.dtype == types.int16:
        return builder.fpext(builder.bitcast(raw, _vector(ir.HalfType(), lanes)), wide)
    integer = _vector(ir.IntType(32), lanes)
    return builder.bitcast(builder.shl(builder.zext(raw, integer), _all(integer, 16)), wide)


def _store(context: Any, builder: Any, array_type: Any, array: Any, start: Any, first: int, value: Any) -> None:
    lanes = value.type.count
    if array_type.dtype == types.float32:
        builder.store(value, _place(context, builder, array_type, array, start, first, value.type), align=4)
        return
    narrow = _vector(ir.IntType(16), lanes)
    if array_type.dtype == types.int16:
        raw = builder.bitcast(builder.fptrunc(value, _vector(ir.HalfType(), lanes)), narrow)
    else:
        raw = builder.trunc(_rounded_to_bfloat16(builder, value), narrow)
    builder.store(raw, _place(context, builder, array_type, array, start, first, narrow), align=2)


def _rounded_to_bfloat16(builder: Any, value: Any) -> Any:
    """Round to the nearest, halves to even, as torch does; what is no number stays none."""
    integer = _vector(ir.IntType(32), value.type.count)
    bits = builder.bitcast(value, integer)
    high = builder.lshr(bits, _all(integer, 16))
    odd = builder.and_(high, _all(integer, 1))
    rounded = builder.lshr(builder.add(bits, builder.add(odd, _all(integer, 0x7FFF))), _all(integer, 16))
    return builder.select(builder.fcmp_unordered("uno", value, value), _all(integer, 0x7FC0), rounded)


def _all(vector: Any, number: int) -> Any:
    return ir.Constant(vector, [number] * vector.count)


def _spread(builder: Any, number: Any, lanes: int) -> Any:
    vector, index = _vector(_FLOAT, lanes), _vector(ir.IntType(32), lanes)
    nothing = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(nothing, number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, nothing, ir.Constant(index, [0] * lanes))


def _fma(builder: Any, x: Any, y: Any, z: Any) -> Any:
    return builder.call(_declared(builder, f"llvm.fma.v{x.type.count}f32", x.type, [x.type] * 3), [x, y, z])


def _declared(builder: Any, name: str, result: Any, args: list[Any]) -> Any:
    return builder.module.globals.get(name) or ir.Function(builder.module, ir.FunctionType(result, args), name)
