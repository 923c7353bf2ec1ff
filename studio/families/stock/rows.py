"""The architectures that run through diffusers' own pipelines: one line each.

What a pipeline takes is read from the signature of its `__call__`, so that a line says only what a signature cannot.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """An architecture: its key in the AutoPipeline tables, what people call it, its pipelines, its parts.

    words, picture, mask: pipelines of text to image, image to image and inpainting; "" where there is none. A pipeline
    that takes a picture and no strength edits it as a whole.
    multiple: what a side must be divisible by. led: of two stages, a person sets the first one's steps and guidance.
    steered: the pipeline reads its guidance anew at each step, so it can be changed on the way.
    package: what its code wants from Python beyond what the studio installs.
    stages: how many it draws in, with as many steps in each. spreads: all steps are spread over what a strength leaves.
    reads_pictures_in: the only type in which it reads them, if there is but one. masks_by_unet: only a UNet with inputs
    for a mask repaints. control_mode: which of a union's kinds of control a control picture is.
    patches_first: patches stand before the channels in its latents.
    """

    key: str
    name: str
    words: str
    picture: str = ""
    mask: str = ""
    parts: str = "transformer text_encoder tokenizer"
    multiple: int = 16
    steered: bool = False
    led: bool = False
    package: str = ""
    stages: int = 1
    spreads: bool = False
    reads_pictures_in: str = ""
    masks_by_unet: bool = False
    control_mode: int | None = None
    patches_first: bool = False

    @property
    def controlled(self) -> bool:
        """Whether it follows a control picture beside the words."""
        return any("Control" in each for each in self.pipelines)

    @property
    def pipelines(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.words, self.picture, self.mask)))


_UNET = "unet text_encoder tokenizer vae scheduler"
_UNET_2 = "unet text_encoder text_encoder_2 tokenizer tokenizer_2 vae scheduler"
_DIT = "transformer text_encoder tokenizer vae scheduler"
_DIT_2 = "transformer text_encoder text_encoder_2 tokenizer tokenizer_2 vae scheduler"
_DIT_3 = f"{_DIT_2} text_encoder_3 tokenizer_3"
_PRIOR = "prior_prior prior_text_encoder prior_tokenizer prior_scheduler"
_KANDINSKY = f"unet scheduler movq {_PRIOR} prior_image_encoder prior_image_processor"
_CASCADE = f"text_encoder tokenizer decoder scheduler vqgan {_PRIOR}"


def _three(stem: str) -> tuple[str, str, str]:
    return f"{stem}Pipeline", f"{stem}Img2ImgPipeline", f"{stem}InpaintPipeline"


ROWS: tuple[Row, ...] = (
    Row("auraflow", "AuraFlow", "AuraFlowPipeline", parts=_DIT),
    Row("cascade", "Stable Cascade", "StableCascadeCombinedPipeline", parts=_CASCADE, multiple=128, led=True),
    Row("chroma", "Chroma", "ChromaPipeline", parts=_DIT),
    Row("cogview3", "CogView3 Plus", "CogView3PlusPipeline", parts=_DIT, steered=True),
    Row("cogview4", "CogView4", "CogView4Pipeline", parts=_DIT, steered=True),
    Row("cogview4-control", "CogView4 Control", "CogView4ControlPipeline", parts=_DIT, steered=True),
    Row("flux-control", "FLUX.1 Control", *_three("FluxControl"), parts=_DIT_2),
    Row("flux-controlnet", "FLUX.1 ControlNet", *_three("FluxControlNet"), parts=f"{_DIT_2} controlnet"),
    Row("flux-kontext", "FLUX.1 Kontext", "FluxKontextPipeline", "FluxKontextPipeline", parts=_DIT_2),
    Row(
        "glm_image",
        "GLM-Image",
        "GlmImagePipeline",  # it edits pictures too, but not with this transformers, whose pictures' tokens it misreads
        parts=f"{_DIT} vision_language_encoder processor",
        multiple=32,
        steered=True,
    ),
    Row("helios", "Helios", "HeliosPipeline", parts=_DIT, package="ftfy"),
    Row(
        "helios-pyramid",
        "Helios Pyramid",
        "HeliosPyramidPipeline",
        parts=_DIT,
        multiple=64,
        package="ftfy",
        stages=3,
    ),
    Row("hunyuan", "Hunyuan-DiT", "HunyuanDiTPipeline", parts=_DIT_2),
    Row("hunyuan-pag", "Hunyuan-DiT PAG", "HunyuanDiTPAGPipeline", parts=_DIT_2, steered=True),
    Row("ideogram4", "Ideogram 4", "Ideogram4Pipeline", parts=f"{_DIT} unconditional_transformer", patches_first=True),
    Row(
        "if",
        "DeepFloyd IF",
        "IFPipeline",
        "IFImg2ImgPipeline",
        "IFInpaintingPipeline",
        parts="unet text_encoder tokenizer scheduler",
        multiple=8,
    ),
    Row(
        "kandinsky",
        "Kandinsky 2.1",
        "KandinskyCombinedPipeline",
        "KandinskyImg2ImgCombinedPipeline",
        "KandinskyInpaintCombinedPipeline",
        parts=f"text_encoder tokenizer {_KANDINSKY}",
        multiple=64,
        masks_by_unet=True,
    ),
    Row(
        "kandinsky22",
        "Kandinsky 2.2",
        "KandinskyV22CombinedPipeline",
        "KandinskyV22Img2ImgCombinedPipeline",
        "KandinskyV22InpaintCombinedPipeline",
        parts=_KANDINSKY,
        multiple=64,
        masks_by_unet=True,
    ),
    Row(
        "kandinsky3",
        "Kandinsky 3",
        "Kandinsky3Pipeline",
        "Kandinsky3Img2ImgPipeline",
        parts="unet text_encoder tokenizer movq scheduler",
        multiple=64,
    ),
    Row("krea2", "Krea 2", "Krea2Pipeline", parts=_DIT),
    Row(
        "lcm",
        "Latent Consistency",
        "LatentConsistencyModelPipeline",
        "LatentConsistencyModelImg2ImgPipeline",
        parts=_UNET,
        multiple=8,
        spreads=True,
    ),
    Row("lumina", "Lumina-Next", "LuminaPipeline", parts=_DIT),
    Row("lumina2", "Lumina 2", "Lumina2Pipeline", parts=_DIT),
    Row(
        "nucleusmoe-image",
        "NucleusMoE-Image",
        "NucleusMoEImagePipeline",
        parts="transformer text_encoder processor vae scheduler",
    ),
    Row("ovis", "Ovis-Image", "OvisImagePipeline", parts=_DIT),
    Row("pixart-alpha", "PixArt-alpha", "PixArtAlphaPipeline", parts=_DIT),
    Row("pixart-sigma", "PixArt-Sigma", "PixArtSigmaPipeline", parts=_DIT),
    Row("pixart-sigma-pag", "PixArt-Sigma PAG", "PixArtSigmaPAGPipeline", parts=_DIT),
    Row("prx", "PRX", "PRXPipeline", parts=_DIT, multiple=32, package="ftfy"),
    Row("qwenimage-controlnet", "Qwen-Image ControlNet", "QwenImageControlNetPipeline", parts=f"{_DIT} controlnet"),
    Row(
        "qwenimage-edit",
        "Qwen-Image Edit",
        "",
        "QwenImageEditPipeline",
        "QwenImageEditInpaintPipeline",
        parts=f"{_DIT} processor",
    ),
    Row("qwenimage-edit-plus", "Qwen-Image Edit Plus", "", "QwenImageEditPlusPipeline", parts=f"{_DIT} processor"),
    Row("qwenimage-layered", "Qwen-Image Layered", "", "QwenImageLayeredPipeline", parts=f"{_DIT} processor"),
    Row(
        "qwenimage21",
        "Qwen-Image 2.1",
        "QwenImage21Pipeline",
        "QwenImage21Pipeline",
        parts="transformer text_encoder processor vae scheduler",
        multiple=32,
    ),
    Row("sana", "Sana", "SanaPipeline", parts=_DIT, multiple=32),
    Row("sana-pag", "Sana PAG", "SanaPAGPipeline", parts=_DIT, multiple=32),
    Row(
        "stable-diffusion-3-controlnet",
        "Stable Diffusion 3 ControlNet",
        "StableDiffusion3ControlNetPipeline",
        "",
        "StableDiffusion3ControlNetInpaintingPipeline",
        parts=f"{_DIT_3} controlnet",
        steered=True,
    ),
    Row(
        "stable-diffusion-3-pag",
        "Stable Diffusion 3 PAG",
        "StableDiffusion3PAGPipeline",
        "StableDiffusion3PAGImg2ImgPipeline",
        parts=_DIT_3,
        steered=True,
    ),
    Row(
        "stable-diffusion-controlnet",
        "Stable Diffusion ControlNet",
        *_three("StableDiffusionControlNet"),
        parts=f"{_UNET} controlnet",
        multiple=8,
        steered=True,
    ),
    Row(
        "stable-diffusion-controlnet-pag",
        "Stable Diffusion ControlNet PAG",
        "StableDiffusionControlNetPAGPipeline",
        "",
        "StableDiffusionControlNetPAGInpaintPipeline",
        parts=f"{_UNET} controlnet",
        multiple=8,
        steered=True,
    ),
    Row(
        "stable-diffusion-pag",
        "Stable Diffusion PAG",
        *_three("StableDiffusionPAG"),
        parts=_UNET,
        multiple=8,
        steered=True,
    ),
    Row(
        "stable-diffusion-xl-controlnet",
        "Stable Diffusion XL ControlNet",
        *_three("StableDiffusionXLControlNet"),
        parts=f"{_UNET_2} controlnet",
        multiple=8,
    ),
    Row(
        "stable-diffusion-xl-controlnet-pag",
        "Stable Diffusion XL ControlNet PAG",
        "StableDiffusionXLControlNetPAGPipeline",
        "StableDiffusionXLControlNetPAGImg2ImgPipeline",
        parts=f"{_UNET_2} controlnet",
        multiple=8,
        steered=True,
    ),
    Row(
        "stable-diffusion-xl-controlnet-union",
        "Stable Diffusion XL ControlNet Union",
        *_three("StableDiffusionXLControlNetUnion"),
        parts=f"{_UNET_2} controlnet",
        multiple=8,
        control_mode=3,
    ),
    Row(
        "stable-diffusion-xl-pag",
        "Stable Diffusion XL PAG",
        *_three("StableDiffusionXLPAG"),
        parts=_UNET_2,
        multiple=8,
        steered=True,
    ),
    Row(
        "kolors",
        "Kolors",
        "KolorsPipeline",
        "KolorsImg2ImgPipeline",
        parts=_UNET,
        multiple=8,
        steered=True,
        package="sentencepiece",
    ),
    Row(
        "kolors-pag",
        "Kolors PAG",
        "KolorsPAGPipeline",
        parts=_UNET,
        multiple=8,
        steered=True,
        package="sentencepiece",
    ),
    Row("wuerstchen", "Wuerstchen", "WuerstchenCombinedPipeline", parts=_CASCADE, multiple=128, led=True),
    Row("z-image-controlnet", "Z-Image ControlNet", "ZImageControlNetPipeline", parts=f"{_DIT} controlnet"),
    Row(
        "z-image-controlnet-inpaint",
        "Z-Image ControlNet inpainting",
        "",
        "",
        "ZImageControlNetInpaintPipeline",
        parts=f"{_DIT} controlnet",
    ),
    Row(
        "z-image-omni",
        "Z-Image Omni",
        "ZImageOmniPipeline",
        "ZImageOmniPipeline",
        parts=f"{_DIT} siglip siglip_processor",
        reads_pictures_in="bfloat16",
    ),
)
"""The architectures that have no step of their own, in the order of their keys."""

HALVES = {
    "Kandinsky 2.1": "KandinskyPipeline KandinskyImg2ImgPipeline KandinskyInpaintPipeline KandinskyPriorPipeline",
    "Kandinsky 2.2": "KandinskyV22Pipeline KandinskyV22Img2ImgPipeline KandinskyV22InpaintPipeline "
    "KandinskyV22PriorPipeline",
    "Wuerstchen": "WuerstchenDecoderPipeline WuerstchenPriorPipeline",
    "Stable Cascade": "StableCascadeDecoderPipeline StableCascadePriorPipeline",
}
"""Pipelines that are one of two halves; their combined pipelines are in ROWS."""
