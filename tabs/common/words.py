"""The page's words, in English and Simplified Chinese.

Labels are translated by the browser (`T`). Toasts, and texts with numbers in them, are not, so their words are chosen
here by the language that the browser asks for (`say`).
"""

import gradio as gr

_WORDS: dict[str, tuple[str, str]] = {
    # tabs
    "title": ("Small Stable Diffusion", "小型 Stable Diffusion"),
    "subtitle": (
        "Watch noise turn into pictures, repair damaged ones, train your own model.",
        "观看噪声变成图片，修复受损的图片，训练自己的模型。",
    ),
    "tab_generate": ("Generate", "生成"),
    "tab_restore": ("Restore", "修复"),
    "tab_train": ("Train", "训练"),
    # prompt
    "prompt": ("Prompt", "提示词"),
    "prompt_placeholder": ("What should be drawn?", "想画什么？"),
    "negative": ("Negative prompt", "反向提示词"),
    "negative_info": ("What to keep away from", "不希望出现的内容"),
    "generate": ("Generate", "生成"),
    "stop": ("Stop", "停止"),
    "examples": ("Examples", "示例"),
    "prompt_cut": (
        "The prompt is longer than the model reads: its end is left out.",
        "提示词超出模型可读取的长度，末尾部分已忽略。",
    ),
    "negative_cut": (
        "The negative prompt is longer than the model reads: its end is left out.",
        "反向提示词超出模型可读取的长度，末尾部分已忽略。",
    ),
    "left_out": ("Left out, since this model never learnt them:", "已忽略，因为该模型没有学过："),
    "words_known": ("Words this model knows", "该模型认识的词"),
    "words_filter": ("Filter", "筛选"),
    "words_hint": ("A click adds a word to the prompt.", "点击即可将词加入提示词。"),
    # settings
    "model": ("Model", "模型"),
    "count": ("Number of pictures", "图片数量"),
    "seed": ("Seed", "随机种子"),
    "new_seed": ("New seed each time", "每次使用新种子"),
    "reuse_seed": ("Reuse last seed", "使用上次的种子"),
    "advanced": ("Advanced", "高级设置"),
    "sampler": ("Sampler", "采样器"),
    "steps": ("Steps", "步数"),
    "guidance": ("Guidance scale", "引导强度"),
    "guidance_info": ("How strongly to follow the prompt; 0 hardly", "遵循提示词的程度；0 几乎不遵循"),
    "variation_of": ("Variation of", "变体来源"),
    "variation_of_info": ("The seed of a picture to vary; empty for none", "要变化的图片的种子；留空则不使用"),
    "variation_strength": ("Variation strength", "变体强度"),
    "image_to_image": ("Image to image", "图生图"),
    "start": ("Picture to start from", "起始图片"),
    "strength": ("Strength", "强度"),
    "strength_info": ("How much of the picture is drawn anew; 1 forgets it", "重新绘制的程度；1 表示完全忽略原图"),
    "png_settings": ("Settings from a picture", "从图片读取设置"),
    "png_drop": ("Drop a PNG that was made here", "拖入在这里生成的 PNG"),
    # results
    "preview": ("Preview", "预览"),
    "step_slider": ("Denoising step", "去噪步骤"),
    "view": ("Show", "显示"),
    "view_guess": ("Model's guess", "模型的猜测"),
    "view_noisy": ("Noisy picture", "带噪声的图"),
    "noise_level": ("noise level σ = {sigma}", "噪声强度 σ = {sigma}"),
    "seed_is": ("Seed {seed}", "种子 {seed}"),
    "pictures": ("Pictures", "图片"),
    "download_one": ("Download picture", "下载图片"),
    "download_all": ("Download all (.zip)", "全部下载 (.zip)"),
    "variations": ("Variations", "生成变体"),
    "use_as_start": ("Start from it", "作为起始图片"),
    "send_to_restore": ("Send to Restore", "发送到修复"),
    "animate": ("Animate steps", "制作去噪动画"),
    "animation": ("Animation", "动画"),
    "walk": ("Walk between two seeds", "在两个种子之间漫步"),
    "walk_from": ("From seed", "起始种子"),
    "walk_to": ("To seed", "目标种子"),
    "frames": ("Frames", "帧数"),
    "walk_start": ("Walk", "开始漫步"),
    "strip": ("Strip", "连续画面"),
    # status
    "ready": ("Ready.", "就绪。"),
    "starting": ("Starting …", "正在启动……"),
    "before_you": ("Waiting; {before} before you", "排队中，前面还有 {before} 个任务"),
    "step": ("Step {index} of {count}", "第 {index} 步，共 {count} 步"),
    "left": ("{seconds} s left", "剩余 {seconds} 秒"),
    "keeping": ("Saving and comparing …", "正在保存并比较……"),
    "done_in": ("Done in {seconds} s", "完成，用时 {seconds} 秒"),
    "stopped_at": ("Stopped at step {index} of {count}", "已停止于第 {index} 步，共 {count} 步"),
    # toasts
    "no_model": (
        "There is no model yet; train one in the Train tab, or put a checkpoint into the checkpoints folder.",
        "还没有模型；请在“训练”页训练一个，或把模型放进 checkpoints 文件夹。",
    ),
    "no_pictures": ("Generate pictures first.", "请先生成图片。"),
    "no_steps": ("The steps are no longer kept; generate again.", "去噪步骤已不再保存，请重新生成。"),
    "settings_restored": ("Settings restored.", "设置已恢复。"),
    "other_model": (
        "This picture was made with a model that is not here: {model}. The other settings were restored.",
        "生成该图片的模型不在这里：{model}。其他设置已恢复。",
    ),
    "other_sampler": (
        "This picture was made with a sampler that is not here: {sampler}. The other settings were restored.",
        "生成该图片的采样器不在这里：{sampler}。其他设置已恢复。",
    ),
    "settings_left_out": (
        "Left out, since their values cannot be used here: {names}. The other settings were restored.",
        "以下设置的值无法在此使用，已忽略：{names}。其他设置已恢复。",
    ),
    "needs_start": (
        "This picture was made from another one; load that under “Image to image” to make it again.",
        "该图片由另一张图片生成；要重新生成，请在“图生图”中载入那张图片。",
    ),
}

I18N = gr.I18n(**{locale: {key: words[i] for key, words in _WORDS.items()} for i, locale in enumerate(("en", "zh"))})


def T(key: str):
    """The words for `key`, in the language of the browser that shows them."""
    if key not in _WORDS:
        raise KeyError(f"There are no words for {key!r}.")
    return I18N(key)


def add_words(words: dict[str, tuple[str, str]]) -> None:
    """Adds another tab's words, each in English and Chinese. Call it before the page is built."""
    _WORDS.update(words)
    for i, locale in enumerate(("en", "zh")):
        I18N.translations[locale].update({key: pair[i] for key, pair in words.items()})


def say(request: gr.Request | None, key: str, **values: object) -> str:
    """The words for `key` in the language of whoever made `request`, for toasts and texts with `values` in them."""
    return _WORDS[key][reads_chinese(request)].format(**values)


def reads_chinese(request: gr.Request | None) -> bool:
    """Whether the browser that made `request` asks for Chinese before all else."""
    accepted = request.headers.get("accept-language", "") if request is not None and request.headers else ""
    return accepted.lower().startswith("zh")
