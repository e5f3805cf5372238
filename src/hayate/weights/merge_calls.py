"""The methods of a merge's expression, called with what stands in their brackets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hayate.errors import UnknownName, UsageError
from hayate.weights.merge_blocks import Ratio, read_number, read_ratio
from hayate.weights.merge_nodes import METHODS, SYNONYMS, Blend, Model, Node, WithLoras

MAX_SEED = 2**53
KNOWN = (*METHODS, *SYNONYMS, "lora", "recipe")
Argument = Node | str
"""A part, or the text of a number."""
_TENSOR_CALCS = frozenset({"tensor", "tensor2"})
_TEXT_KEYS = ("mbw", "mbw_beta", "rules", "calc")


def call(name: str, given: Sequence[Argument], keys: Mapping[str, str]) -> Node:
    if name == "lora":
        return _with_loras(given, keys)
    if name == "recipe":
        return _saved(given, keys)
    method = SYNONYMS.get(name, name)
    if method not in METHODS:
        raise UnknownName("way to merge", name, KNOWN)
    return _blend(method, given, keys)


def _saved(given: Sequence[Argument], keys: Mapping[str, str]) -> Model:
    """`recipe(A)`: what A itself was merged of, by its metadata."""
    if keys or len(given) != 1 or not isinstance(given[0], Model):
        raise UsageError("recipe takes the name of one merged model", hint="such as recipe(A)")
    return Model(name=given[0].name, is_saved=True)


def _with_loras(given: Sequence[Argument], keys: Mapping[str, str]) -> WithLoras:
    """`lora(A, name, 0.8, other, 0.5)`; a strength left out is 1."""
    if keys:
        raise UnknownName("key of lora", next(iter(keys)), ("none: lora(A, name, 0.8)",))
    if len(given) < 2 or isinstance(given[0], str):
        raise UsageError("lora needs a model and a LoRA", hint='such as lora(A, "name", 0.8)')
    loras: list[tuple[str, float]] = []
    for each in given[1:]:
        if isinstance(each, Model):
            loras.append((each.name, 1.0))
        elif isinstance(each, str) and loras:
            loras[-1] = (loras[-1][0], read_number(each, "the strength"))
        else:
            raise UsageError("lora takes names and strengths after its model", hint='such as lora(A, "name", 0.8)')
    return WithLoras(part=given[0], loras=tuple(loras))


def _blend(method: str, given: Sequence[Argument], keys: Mapping[str, str]) -> Blend:
    about = METHODS[method]
    ratio_keys = ("alpha", "beta")[: about.ratios]
    known = (*ratio_keys, *_TEXT_KEYS, *about.options)
    if wrong := next((key for key in keys if key not in known), None):
        raise UnknownName(f"key of {method}", wrong, known)
    parts = [each for each in given if not isinstance(each, str)]
    numbers = [each for each in given if isinstance(each, str)]
    _check_counts(method, len(parts), len(numbers))
    bases = {key: read_number(text, key) for key, text in zip(ratio_keys, numbers, strict=False)}
    if twice := next((key for key in bases if key in keys), None):
        raise UsageError(f"{method} has {twice} twice", hint="as a number or by its key")
    bases |= {key: read_number(keys[key], key) for key in ratio_keys if key in keys}
    calc = _calc_of(method, keys.get("calc", "normal"))
    options = tuple((key, _option(key, keys, default)) for key, default in about.options.items())
    blend = Blend(
        method=method,
        calc=calc,
        parts=tuple(parts),
        ratios=_ratios(ratio_keys, bases, keys),
        options=options,
    )
    _check_tensor_shares(blend)
    return blend


def _check_counts(method: str, parts: int, numbers: int) -> None:
    about = METHODS[method]
    low, high = about.models
    if not low <= parts <= high:
        wanted = str(low) if low == high else f"{low} to {high}"
        names = ", ".join("ABC"[:low])
        ratios = ", ".join(("0.35", "0.3")[: about.ratios])
        hint = f"it takes {wanted}: {method}({names}, {ratios})"
        raise UsageError(f"{method} has {parts} model{'s' * (parts != 1)}", hint=hint)
    if numbers > about.ratios:
        raise UsageError(f"{method} has {numbers} numbers", hint=f"it takes {about.ratios} after the models")


def _calc_of(method: str, calc: str) -> str:
    calcs = METHODS[method].calcs
    if calc not in calcs:
        home = next((name for name, each in METHODS.items() if calc in each.calcs), None)
        if home:
            raise UsageError(f"{method} can't calculate by {calc}", hint=f"{home} can; here: {', '.join(calcs)}")
        raise UnknownName(
            "calculation mode", calc, [*calcs, *(each for name in METHODS for each in METHODS[name].calcs)]
        )
    return calc


def _option(key: str, keys: Mapping[str, str], default: float) -> float:
    value = read_number(keys[key], key) if key in keys else default
    limits = {"keep": (0, 1), "drop": (0, 0.999), "beta": (0, 1), "gamma": (0, 100), "seed": (0, MAX_SEED)}
    low, high = limits[key]
    if not low <= value <= high:
        raise UsageError(f"{key} {value:g} is out of range", hint=f"{low:g} to {high:g} are possible")
    return value


def _ratios(names: Sequence[str], bases: Mapping[str, float], keys: Mapping[str, str]) -> tuple[Ratio, ...]:
    if "mbw_beta" in keys and "beta" not in names:
        raise UsageError("mbw_beta is for ways with two ratios", hint="triple_sum and sum_twice have them")
    texts = {"alpha": (keys.get("mbw", ""), keys.get("rules", "")), "beta": (keys.get("mbw_beta", ""), "")}
    return tuple(read_ratio(bases.get(name), *texts[name]) for name in names)


def _check_tensor_shares(blend: Blend) -> None:
    """Slices are shares of a whole, so that their ratios lie between 0 and 1."""
    if blend.calc not in _TENSOR_CALCS | {"extract"}:
        return
    ratio = blend.ratios[0]
    values = (ratio.base, *(value for _, value in ratio.blocks), *(rule.value for rule in ratio.rules))
    if wrong := next((value for value in values if not 0 <= value <= 1), None):
        raise UsageError(f"{blend.calc} can't take the ratio {wrong:g}", hint="0 to 1 are possible")
