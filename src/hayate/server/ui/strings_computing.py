"""The strings of what is rarely touched in how pictures are computed."""

from __future__ import annotations

COMPUTING: dict[str, tuple[str, str]] = {
    "group.advanced": ("Advanced", "高度な設定"),
    "asked.guidance_interval.0": ("Guidance from sigma", "ガイダンス下限 (sigma)"),
    "asked.guidance_interval.0.help": (
        "Below this noise level the prompt alone acts: the last steps take half the time. Changes pictures.",
        "このノイズ量より下ではネガティブとガイダンスを省き、終盤が速くなります。画像が変わります。",
    ),
    "asked.guidance_interval.1": ("Guidance to sigma", "ガイダンス上限 (sigma)"),
    "asked.guidance_interval.1.help": (
        "Above this noise level the prompt alone acts: the first steps take half the time. Changes pictures.",
        "このノイズ量より上ではネガティブとガイダンスを省き、序盤が速くなります。画像が変わります。",
    ),
    "asked.tiny_vae": ("Decode by TAESD", "TAESD でデコード"),
    "asked.tiny_vae.help": (
        "A TAESD decoder's file of vae_dir decodes in place of the VAE: fast, with less detail.",
        "vae_dir にある TAESD のファイルで VAE の代わりにデコードします。速い代わりに細部が減ります。",
    ),
    "asked.vae_dtype": ("VAE precision", "VAE の精度"),
    "asked.vae_dtype.help": (
        "What the VAE computes in; fp32 is A1111's --no-half-vae.",
        "VAE の計算に使う数値型。fp32 は A1111 の --no-half-vae と同じ。",
    ),
    "asked.layers": ("Layers", "層の形"),
    "asked.layers.help": (
        "plain: as in the file; fused: queries, keys and values at once; packed: also laid out for the CPU.",
        "plain はファイルのまま、fused は QKV を一度に計算、packed はさらに CPU 向けに並べ替えます。",
    ),
    "asked.layout": ("Memory layout", "メモリ配置"),
    "asked.layout.help": (
        "channels-last is A1111's --opt-channelslast.",
        "channels-last は A1111 の --opt-channelslast と同じ。",
    ),
    "asked.is_graphed": ("CUDA graphs", "CUDA グラフ"),
    "asked.is_graphed.help": ("Steps are recorded once and replayed.", "ステップを一度記録し、以後は再生します。"),
    "asked.is_graphed=true": ("on", "オン"),
    "asked.is_graphed=false": ("off", "オフ"),
    "asked.offload": ("Offload", "オフロード"),
    "asked.offload.help": (
        "What waits outside the card's memory; automatic goes by the free memory.",
        "GPU メモリの外に置くもの。自動は空きメモリで決まります。",
    ),
    "asked.inputs_at_once": ("Inputs in one call", "同時に計算する入力数"),
    "asked.inputs_at_once.help": (
        "With guidance a picture is two. Fewer need less memory.",
        "ガイダンスありの画像は 2 と数えます。少ないほどメモリを節約します。",
    ),
    "asked.checks_nan": ("Check for NaN", "NaN の検査"),
    "asked.checks_nan.help": (
        "Off is A1111's --disable-nan-check: black pictures are not mended.",
        "オフは A1111 の --disable-nan-check と同じ。黒い画像を直しません。",
    ),
    "asked.checks_nan=false": ("off", "オフ"),
    "asked.ignores_profile": ("Tuned profile", "チューニング結果"),
    "asked.ignores_profile.help": ("What Tune found fastest here.", "チューニングで最速だった設定。"),
    "asked.ignores_profile=true": ("ignored", "使わない"),
    "all steps": ("all", "すべて"),
    "whole vae": ("no: the VAE", "使わない(VAE)"),
    "on": ("on", "オン"),
    "followed": ("followed", "使う"),
    "half_made": ("On interrupt and skip", "中断・スキップ時"),
    "half_made.help": (
        "What becomes of the picture that is half-made; those that are finished are kept in any case.",
        "途中の画像の扱い。完成した画像は常に残ります。",
    ),
    "half_made=shown": ("show the half-made one", "途中の画像を表示"),
    "half_made=saved": ("save it too", "途中の画像も保存"),
    "half_made=dropped": ("drop it", "破棄"),
    "preview_vae": ("Preview by", "プレビューの方式"),
    "preview_vae.help": (
        "Approximate colours (A1111's Approx cheap) cost nothing; a TAESD file of vae_dir shows more.",
        "近似色 (A1111 の Approx cheap) は負荷がありません。vae_dir の TAESD なら細部まで見えます。",
    ),
    "linear": ("approximate colours", "近似色"),
}
