"""A1111's flags among the words of a command."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hayate.errors import UsageError
from hayate.flags import FLAGS, device_from, flags_page, take_flags


def test_flags_leave_and_the_rest_stays_in_order():
    flags, rest = take_flags(["a cat", "--xformers", "--steps", "20", "--theme", "dark", "--medvram", "--seed=3"])
    assert rest == ["a cat", "--steps", "20", "--seed=3"]
    assert set(flags.values) == {"--xformers", "--theme", "--medvram"}
    assert flags.value("--theme") == "dark"
    assert flags.notes == ("--theme: the server's; it has no effect on this command",)


def test_words_after_two_dashes_are_text():
    flags, rest = take_flags(["--xformers", "--", "--medvram"])
    assert rest == ["--", "--medvram"]
    assert "--medvram" not in flags


def test_several_words_may_follow_use_cpu():
    flags, rest = take_flags(["--use-cpu", "interrogate", "codeformer", "--steps", "3"])
    assert flags.values["--use-cpu"] == ("interrogate", "codeformer")
    assert rest == ["--steps", "3"]


@pytest.mark.parametrize("name", [name for name, flag in FLAGS.items() if flag.takes])
def test_a_flag_without_its_word_is_an_error(name):
    with pytest.raises(UsageError, match=f"{name} needs a value"):
        take_flags([name])


@given(words=st.lists(st.one_of(st.sampled_from(["--", *FLAGS]), st.text(max_size=5)), max_size=8))
def test_no_word_is_lost_or_invented(words):
    try:
        flags, rest = take_flags(words)
    except UsageError:
        return
    taken = [word for name, values in flags.values.items() for word in (name, *values)]
    assert set(rest) | set(taken) <= set(words) | {word.partition("=")[2] for word in words}
    assert len(rest) + len(taken) <= len(words)
    if "--" in words:
        assert rest[rest.index("--") :] == words[words.index("--") :]


def test_flags_name_a_device_and_may_not_contradict():
    assert device_from(take_flags(["--device-id", "1"])[0], None) == "cuda:1"
    assert device_from(take_flags(["--use-cpu", "all"])[0], None) == "cpu"
    assert device_from(take_flags([])[0], "mps") == "mps"
    with pytest.raises(UsageError, match="contradict"):
        device_from(take_flags(["--use-cpu", "all"])[0], "cuda")
    with pytest.raises(UsageError, match="not a number"):
        device_from(take_flags(["--device-id", "first"])[0], None)


def test_a_prompt_after_use_cpu_stays_a_prompt():
    flags, rest = take_flags(["--use-cpu", "all", "a red sun", "--medvram"])
    assert rest == ["a red sun"]
    assert flags.values["--use-cpu"] == ("all",)


def test_use_cpu_for_other_models_leaves_the_device_alone():
    """What A1111 starts with on every Mac."""
    flags, _ = take_flags(["--skip-torch-cuda-test", "--no-half-vae", "--use-cpu", "interrogate"])
    assert device_from(flags, None) is None
    assert any("--use-cpu interrogate" in note for note in flags.notes)
    assert device_from(take_flags(["--use-cpu", "interrogate", "SD"])[0], None) == "cpu"
    with pytest.raises(UsageError, match="nearest"):
        take_flags(["--use-cpu", "unet"])


A1111 = """
--xformers --force-enable-xformers --xformers-flash-attention --opt-sdp-attention --opt-sdp-no-mem-attention
--opt-split-attention --opt-split-attention-v1 --opt-split-attention-invokeai --opt-sub-quad-attention
--sub-quad-q-chunk-size --sub-quad-kv-chunk-size --sub-quad-chunk-threshold --disable-opt-split-attention
--opt-channelslast --no-half --no-half-vae --precision --upcast-sampling --medvram --medvram-sdxl --lowvram --lowram
--disable-nan-check --use-cpu --use-ipex --device-id --disable-model-loading-ram-optimization --no-hashing
--always-batch-cond-uncond --unload-gfpgan --max-batch-count --deepdanbooru --gradio-queue --show-negative-prompt
--gradio-img2img-tool --gradio-inpaint-tool --add-stop-route --enable-console-prompts --ngrok-region --data-dir
--models-dir --ckpt --ckpt-dir --vae-dir --vae-path --config --embeddings-dir --textual-inversion-templates-dir
--hypernetwork-dir --localizations-dir --styles-file --gfpgan-dir --gfpgan-model --codeformer-models-path
--gfpgan-models-path --esrgan-models-path --bsrgan-models-path --realesrgan-models-path --dat-models-path
--clip-models-path --lora-dir --lyco-dir-backcompat --ldsr-models-path --scunet-models-path --swinir-models-path
--ui-config-file --ui-settings-file --listen --port --server-name --share --ngrok --ngrok-options --gradio-auth
--gradio-auth-path --gradio-allowed-path --gradio-debug --no-gradio-queue --api --nowebui --api-auth --api-log
--api-server-stop --cors-allow-origins --cors-allow-origins-regex --tls-keyfile --tls-certfile --disable-tls-verify
--subpath --timeout-keep-alive --skip-load-model-at-start --freeze-settings --freeze-settings-in-sections
--freeze-specific-settings --hide-ui-dir-config --enable-insecure-extension-access --disable-safe-unpickle --allow-code
--administrator --skip-install --skip-prepare-environment --reinstall-torch --reinstall-xformers --skip-torch-cuda-test
--skip-python-version-check --skip-version-check --update-check --update-all-extensions --log-startup --dump-sysinfo
--test-server --loglevel --do-not-download-clip --no-download-sd-model --exit -f --autolaunch --theme
--use-textbox-seed --disable-console-progressbars --no-progressbar-hiding --no-prompt-history --ui-debug-mode
--disable-all-extensions --disable-extra-extensions --unix-filenames-sanitization --filenames-max-length
""".split()  # noqa: SIM905 - a list to be read and compared with theirs
"""Every flag of v1.10.1 and its built-in extensions."""


def test_every_flag_of_a1111_is_understood_and_documented():
    assert set(FLAGS) == set(A1111)
    page = flags_page()
    assert all(f"| `{name}` |" in page and FLAGS[name].doc for name in A1111)
