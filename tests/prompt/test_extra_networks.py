"""Marks such as <lora:name:0.8>."""

from __future__ import annotations

import re
import time

from hypothesis import given
from hypothesis import strategies as st

from hayate.prompt.extra_networks import ExtraNetwork, split_extra_networks


def test_marks_are_taken_out_in_order() -> None:
    text, networks = split_extra_networks("a <lora:ink:0.8:0.5:4> b<lyco:style v2>, <hypernet:old:0.3>c")
    assert text == "a  b, c"
    assert networks == (
        ExtraNetwork(kind="lora", name="ink", positional=("0.8", "0.5", "4")),
        ExtraNetwork(kind="lyco", name="style v2"),
        ExtraNetwork(kind="hypernet", name="old", positional=("0.3",)),
    )


def test_named_arguments() -> None:
    (network,) = split_extra_networks("<lora:ink:te=0.5:unet=1:a=b=c:dyn=8>")[1]
    assert network.positional == ("a=b=c",)
    assert dict(network.named) == {"te": "0.5", "unet": "1", "dyn": "8"}


def test_what_is_no_mark_stays() -> None:
    for text in ("", "a < b", "<lora>", "<lora:>", "<lo ra:x>", "<:x>", "<lora:x", "a > b", "<3 :)"):
        assert split_extra_networks(text) == (text, ())
    assert split_extra_networks("<lora:><lora:x>") == ("<lora:>", (ExtraNetwork(kind="lora", name="x"),))


def test_openings_without_an_end_cost_little() -> None:
    start = time.process_time()
    assert split_extra_networks("<lora:" * 30_000)[1] == ()
    assert time.process_time() - start < 1.0


@given(st.text(st.sampled_from("<>:= \nab_1é"), max_size=40))
def test_the_text_left_is_the_text_without_marks(text: str) -> None:
    mark = re.compile(r"<(\w+):([^>]+)>")
    left, networks = split_extra_networks(text)
    assert left == mark.sub("", text)
    assert [network.kind for network in networks] == [found[1] for found in mark.finditer(text)]
