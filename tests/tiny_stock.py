"""A pipeline of a few thousand random weights for each architecture that runs through its stock pipeline."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, UNet2DConditionModel
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CLIPTextConfig, PreTrainedTokenizerFast, T5Config, T5EncoderModel

from studio.families.stock.rows import ROWS, Row

WORDS = [
    "<pad>",
    "<s>",
    "</s>",
    "<unk>",
    *["a", "red", "green", "blue", "apple", "cat", "dog", "on", "table", "of", "the"],
]

MARKS = (
    "<|im_start|> <|im_end|> <|vision_start|> <|vision_end|> <|image_pad|> <|video_pad|> [IMG] [IMG_BREAK] [IMG_END]"
)
"""Special tokens of encoders that see pictures too."""

CHAT = (
    "{% for m in messages %}<|im_start|> {% if m.content is string %}{{ m.content }}{% else %}"
    "{% for c in m.content %}{% if c.type == 'text' %}{{ c.text }}{% else %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% endif %}{% endfor %}{% endif %} <|im_end|>{% endfor %}"
)

VOCABULARY = len(WORDS) + len(MARKS.split()) + 2


def build(key: str, inpainting: bool = False) -> Any:
    """The pipeline of an architecture. inpainting: as the model that its authors made for it, where there is one."""
    torch.manual_seed(0)
    row = next(row for row in ROWS if row.key == key)
    parts = BUILT[key](row)
    if inpainting:
        parts["unet"] = UNet2DConditionModel.from_config({**parts["unet"].config, "in_channels": 9})
    for name in ("safety_checker", "feature_extractor", "image_encoder", "watermarker"):
        parts.setdefault(name, None)
    kind = getattr(diffusers, row.pipelines[0])
    takes = inspect.signature(kind.__init__).parameters
    off = {"requires_safety_checker": False} if "requires_safety_checker" in takes else {}
    pipeline = kind(**{name: part for name, part in parts.items() if name in takes}, **off)
    pipeline.set_progress_bar_config(disable=True)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            _settle(part.eval())
    return pipeline


def _settle(part: torch.nn.Module) -> None:
    """Weights that are nothing or anything by default become small random numbers, so that every input counts."""
    for parameter in part.parameters():
        if not torch.isfinite(parameter).all() or parameter.abs().sum() == 0 or parameter.abs().max() > 1e3:
            torch.nn.init.normal_(parameter, std=0.05)


def _strong(part: Any, factor: float) -> Any:
    """With larger matrices, so that other words make a picture that differs by more than a rounding."""
    for parameter in part.parameters():
        if parameter.ndim > 1:
            parameter.data.mul_(factor)
    return part


def tokenizer(length: int = 16, marks: bool = False, **more: Any) -> PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    options: dict[str, Any] = {}
    if marks:
        options = {"additional_special_tokens": MARKS.split(), "chat_template": CHAT}
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=length,
        **options,
        **more,
    )


def clip(projected: bool = False, width: int = 16) -> Any:
    kind = transformers.CLIPTextModelWithProjection if projected else transformers.CLIPTextModel
    return kind(
        CLIPTextConfig(
            vocab_size=VOCABULARY,
            hidden_size=width,
            projection_dim=width,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=77,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
        )
    )


def t5(width: int = 16) -> Any:
    return T5EncoderModel(T5Config(vocab_size=VOCABULARY, d_model=width, d_kv=8, d_ff=16, num_layers=1, num_heads=2))


def kl(channels: int = 4, **options: Any) -> AutoencoderKL:
    """Factor 8."""
    return AutoencoderKL(
        block_out_channels=(4, 4, 4, 4),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=channels,
        norm_num_groups=2,
        layers_per_block=1,
        **options,
    )


def flux_kl() -> AutoencoderKL:
    return kl(4, shift_factor=0.1, scaling_factor=0.4, use_quant_conv=False, use_post_quant_conv=False)


def flow(**options: Any) -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(**options)


def ddim() -> Any:
    return diffusers.DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1
    )


# DiT and T5


def _auraflow(row: Row) -> dict[str, Any]:
    return {
        "transformer": diffusers.AuraFlowTransformer2DModel(
            sample_size=8,
            patch_size=2,
            in_channels=4,
            num_mmdit_layers=1,
            num_single_dit_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            caption_projection_dim=16,
            joint_attention_dim=16,
            out_channels=4,
            pos_embed_max_size=64,
        ),
        "text_encoder": transformers.UMT5EncoderModel(
            transformers.UMT5Config(vocab_size=VOCABULARY, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
        ),
        "tokenizer": tokenizer(256),
        "vae": kl(),
        "scheduler": flow(),
    }


def _chroma(row: Row) -> dict[str, Any]:
    return {
        "transformer": diffusers.ChromaTransformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=16,
            axes_dims_rope=[4, 4, 8],
            approximator_hidden_dim=16,
            approximator_layers=1,
            approximator_num_channels=16,
        ),
        "text_encoder": t5(),
        "tokenizer": tokenizer(512),
        "vae": flux_kl(),
        "scheduler": flow(),
    }


def _cogview3(row: Row) -> dict[str, Any]:
    return {
        "transformer": diffusers.CogView3PlusTransformer2DModel(
            patch_size=2,
            in_channels=4,
            num_layers=1,
            attention_head_dim=4,
            num_attention_heads=2,
            out_channels=4,
            text_embed_dim=16,
            time_embed_dim=8,
            condition_dim=2,
            pos_embed_max_size=8,
            sample_size=8,
        ),
        "text_encoder": t5(),
        "tokenizer": tokenizer(224),
        "vae": kl(),
        "scheduler": diffusers.CogVideoXDDIMScheduler(),
    }


def _cogview4(row: Row) -> dict[str, Any]:
    return {
        "transformer": diffusers.CogView4Transformer2DModel(
            patch_size=2,
            in_channels=8 if row.controlled else 4,
            num_layers=1,
            attention_head_dim=4,
            num_attention_heads=4,
            out_channels=4,
            text_embed_dim=16,
            time_embed_dim=8,
            condition_dim=4,
        ),
        "text_encoder": transformers.GlmForCausalLM(
            transformers.GlmConfig(
                vocab_size=VOCABULARY,
                hidden_size=16,
                intermediate_size=8,
                num_hidden_layers=2,
                num_attention_heads=2,
                num_key_value_heads=2,
                head_dim=8,
                pad_token_id=0,
            )
        ),
        "tokenizer": tokenizer(1024),
        "vae": kl(),
        "scheduler": flow(
            base_shift=0.25,
            max_shift=0.75,
            base_image_seq_len=256,
            use_dynamic_shifting=True,
            time_shift_type="linear",
        ),
    }


def _helios(row: Row) -> dict[str, Any]:
    stages: dict[str, Any] = {"gamma": 0.333333} if "pyramid" in row.key else {"stages": 1, "stage_range": [0, 1]}
    transformer = diffusers.HeliosTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=4,
        text_dim=16,
        freq_dim=8,
        ffn_dim=16,
        num_layers=1,
        rope_dim=(4, 2, 2),
    )
    return {
        "transformer": _strong(transformer, 6.0),
        "text_encoder": transformers.UMT5EncoderModel(
            transformers.UMT5Config(vocab_size=VOCABULARY, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
        ),
        "tokenizer": tokenizer(512),
        "vae": _strong(_qwen_vae("AutoencoderKLWan"), 1.5),
        "scheduler": diffusers.HeliosScheduler(**stages),
    }


def _hunyuan(row: Row) -> dict[str, Any]:
    return {
        "transformer": diffusers.HunyuanDiT2DModel(
            sample_size=8,
            num_layers=2,
            patch_size=2,
            attention_head_dim=8,
            num_attention_heads=3,
            in_channels=4,
            cross_attention_dim=16,
            cross_attention_dim_t5=16,
            pooled_projection_dim=16,
            hidden_size=24,
            activation_fn="gelu-approximate",
        ),
        "text_encoder": transformers.BertModel(
            transformers.BertConfig(
                vocab_size=VOCABULARY,
                hidden_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=16,
                max_position_embeddings=77,
            )
        ),
        "tokenizer": tokenizer(77),
        "text_encoder_2": t5(),
        "tokenizer_2": tokenizer(256),
        "vae": kl(),
        "scheduler": diffusers.DDPMScheduler(),
    }


def _gemma(kind: str) -> Any:
    config = getattr(transformers, f"{kind.split('Model')[0].split('For')[0]}Config")(
        vocab_size=VOCABULARY,
        head_dim=8,
        hidden_size=16,
        intermediate_size=16,
        num_attention_heads=2,
        num_hidden_layers=2,
        num_key_value_heads=2,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return getattr(transformers, kind)(config)


def _lumina(row: Row) -> dict[str, Any]:
    return {
        "transformer": diffusers.LuminaNextDiT2DModel(
            sample_size=8,
            patch_size=2,
            in_channels=4,
            hidden_size=4,
            num_layers=2,
            num_attention_heads=1,
            num_kv_heads=1,
            multiple_of=16,
            norm_eps=1e-5,
            learn_sigma=True,
            qk_norm=True,
            cross_attention_dim=16,
            scaling_factor=1.0,
        ),
        "text_encoder": _gemma("GemmaForCausalLM"),
        "tokenizer": tokenizer(256),
        "vae": kl(),
        "scheduler": flow(),
    }


def _lumina2(row: Row) -> dict[str, Any]:
    return {
        "transformer": diffusers.Lumina2Transformer2DModel(
            sample_size=8,
            patch_size=2,
            in_channels=4,
            hidden_size=8,
            num_layers=2,
            num_attention_heads=1,
            num_kv_heads=1,
            multiple_of=16,
            norm_eps=1e-5,
            scaling_factor=1.0,
            axes_dim_rope=[4, 2, 2],
            cap_feat_dim=16,
        ),
        "text_encoder": _gemma("Gemma2Model"),
        "tokenizer": tokenizer(256),
        "vae": flux_kl(),
        "scheduler": flow(),
    }


def _pixart(row: Row) -> dict[str, Any]:
    return {
        "transformer": diffusers.PixArtTransformer2DModel(
            sample_size=8,
            num_layers=2,
            patch_size=2,
            attention_head_dim=8,
            num_attention_heads=3,
            caption_channels=16,
            in_channels=4,
            cross_attention_dim=24,
            out_channels=8,
            attention_bias=True,
            activation_fn="gelu-approximate",
            num_embeds_ada_norm=1000,
            norm_type="ada_norm_single",
            norm_elementwise_affine=False,
            norm_eps=1e-6,
        ),
        "text_encoder": t5(),
        "tokenizer": tokenizer(300),
        "vae": kl(),
        "scheduler": diffusers.DPMSolverMultistepScheduler(),
    }


def _prx(row: Row) -> dict[str, Any]:
    from transformers.models.t5gemma.modeling_t5gemma import T5GemmaEncoder

    transformer = diffusers.PRXTransformer2DModel(
        in_channels=4, context_in_dim=16, hidden_size=16, num_heads=2, depth=1, axes_dim=[4, 4]
    )
    return {
        "transformer": _strong(transformer, 2.0),
        "text_encoder": T5GemmaEncoder(
            transformers.T5GemmaModuleConfig(
                vocab_size=VOCABULARY,
                hidden_size=16,
                intermediate_size=16,
                num_hidden_layers=2,
                num_attention_heads=2,
                num_key_value_heads=2,
                head_dim=8,
                dropout_rate=0.0,
                bos_token_id=1,
                eos_token_id=2,
            )
        ),
        "tokenizer": tokenizer(256),
        "vae": flux_kl(),
        "scheduler": flow(shift=3.0),
    }


def _sana(row: Row) -> dict[str, Any]:
    return {
        "transformer": diffusers.SanaTransformer2DModel(
            patch_size=1,
            in_channels=4,
            out_channels=4,
            num_layers=2,
            num_attention_heads=2,
            attention_head_dim=4,
            num_cross_attention_heads=2,
            cross_attention_head_dim=4,
            cross_attention_dim=8,
            caption_channels=16,
            sample_size=8,
        ),
        "text_encoder": _gemma("Gemma2Model"),
        "tokenizer": tokenizer(300),
        "vae": diffusers.AutoencoderDC(
            in_channels=3,
            latent_channels=4,
            attention_head_dim=2,
            encoder_block_types=("ResBlock", "EfficientViTBlock"),
            decoder_block_types=("ResBlock", "EfficientViTBlock"),
            encoder_block_out_channels=(8, 8),
            decoder_block_out_channels=(8, 8),
            encoder_qkv_multiscales=((), (5,)),
            decoder_qkv_multiscales=((), (5,)),
            encoder_layers_per_block=(1, 1),
            decoder_layers_per_block=(1, 1),
            downsample_block_type="conv",
            upsample_block_type="interpolate",
            decoder_norm_types="rms_norm",
            decoder_act_fns="silu",
            scaling_factor=0.41407,
        ),
        "scheduler": flow(shift=7.0),
    }


# UNets


def _unet(width: int = 16, **options: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        **{
            "sample_size": 8,
            "in_channels": 4,
            "out_channels": 4,
            "block_out_channels": (8, 16),
            "layers_per_block": 1,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            "cross_attention_dim": width,
            "attention_head_dim": 8,
            "norm_num_groups": 4,
            **options,
        }
    )


_XL = {
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 6 * 8 + 16,
    "transformer_layers_per_block": (1, 1),
    "use_linear_projection": True,
}


def _lcm(row: Row) -> dict[str, Any]:
    return {
        "unet": _unet(time_cond_proj_dim=32),
        "text_encoder": clip(),
        "tokenizer": tokenizer(77),
        "vae": kl(),
        "scheduler": diffusers.LCMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"),
    }


def _sd(row: Row) -> dict[str, Any]:
    unet = _unet()
    control = {"controlnet": diffusers.ControlNetModel.from_unet(unet)} if row.controlled else {}
    return {
        "unet": unet,
        "text_encoder": clip(),
        "tokenizer": tokenizer(77),
        "vae": kl(),
        "scheduler": ddim(),
        **control,
    }


def _sdxl(row: Row) -> dict[str, Any]:
    unet = _unet(32, **_XL)
    control = {}
    if "union" in row.key:
        config = {
            name: unet.config[name] for name in ("block_out_channels", "down_block_types", "norm_num_groups", *_XL)
        }
        sizes = {"cross_attention_dim": 32, "layers_per_block": 1, "attention_head_dim": 8, "num_control_type": 8}
        union = diffusers.ControlNetUnionModel(
            **config, **sizes, num_trans_channel=8, num_trans_head=2, num_proj_channel=8
        )
        control = {"controlnet": union}
    elif row.controlled:
        control = {"controlnet": diffusers.ControlNetModel.from_unet(unet)}
    return {
        "unet": unet,
        "text_encoder": clip(),
        "tokenizer": tokenizer(77),
        "text_encoder_2": clip(projected=True),
        "tokenizer_2": tokenizer(77),
        "vae": kl(),
        "scheduler": diffusers.EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
        ),
        **control,
    }


@functools.cache
def _scratch() -> TemporaryDirectory[str]:
    """For what can only be built from a file. It goes with the process."""
    return TemporaryDirectory()


def _glm_tokenizer() -> Any:
    import sentencepiece
    from diffusers.pipelines.kolors import ChatGLMTokenizer

    vocabulary = Path(_scratch().name) / "tokenizer.model"
    with vocabulary.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter([" ".join(WORDS[4:])]),
            model_writer=file,
            model_type="word",
            vocab_size=VOCABULARY,
            hard_vocab_limit=False,
            minloglevel=2,
        )
    return ChatGLMTokenizer(str(vocabulary), model_max_length=256)


def _kolors(row: Row) -> dict[str, Any]:
    from diffusers.pipelines.kolors import ChatGLMModel
    from diffusers.pipelines.kolors.text_encoder import ChatGLMConfig

    unet = _unet(32, **{**_XL, "encoder_hid_dim": 16, "encoder_hid_dim_type": "text_proj"})
    encoder = ChatGLMModel(
        ChatGLMConfig(
            num_layers=2,
            padded_vocab_size=64,
            hidden_size=16,
            ffn_hidden_size=16,
            kv_channels=8,
            num_attention_heads=2,
            seq_length=256,
            multi_query_attention=True,
            original_rope=True,
            add_qkv_bias=True,
        )
    )
    for parameter in encoder.parameters():  # it leaves them as the memory was
        torch.nn.init.normal_(parameter, std=0.5)
    return {
        "unet": _strong(unet, 2.0),
        "text_encoder": encoder,
        "tokenizer": _glm_tokenizer(),
        "vae": kl(),
        "scheduler": diffusers.EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.014, beta_schedule="scaled_linear", steps_offset=1, num_train_timesteps=1100
        ),
    }


def _if(row: Row) -> dict[str, Any]:
    return {
        "unet": UNet2DConditionModel(
            sample_size=64,
            layers_per_block=1,
            block_out_channels=(8, 16),
            norm_num_groups=4,
            down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
            mid_block_type="UNetMidBlock2DSimpleCrossAttn",
            up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
            in_channels=3,
            out_channels=6,
            cross_attention_dim=32,
            encoder_hid_dim=16,
            attention_head_dim=8,
            addition_embed_type="text",
            addition_embed_type_num_heads=2,
            cross_attention_norm="group_norm",
            resnet_time_scale_shift="scale_shift",
            act_fn="gelu",
        ),
        "text_encoder": t5(),
        "tokenizer": tokenizer(77),
        "scheduler": diffusers.DDPMScheduler(
            beta_schedule="squaredcos_cap_v2",
            thresholding=True,
            sample_max_value=1.0,
            prediction_type="epsilon",
            variance_type="learned_range",
        ),
    }


def _movq() -> Any:
    return diffusers.VQModel(
        block_out_channels=(32, 32, 32, 32),
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
        up_block_types=("AttnUpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=4,
        norm_type="spatial",
        num_vq_embeddings=12,
        vq_embed_dim=4,
    )


def _kandinsky_prior() -> dict[str, Any]:
    prior = diffusers.PriorTransformer(num_attention_heads=2, attention_head_dim=8, embedding_dim=16, num_layers=1)
    prior.clip_std = torch.nn.Parameter(torch.ones(prior.clip_std.shape))
    vision = transformers.CLIPVisionConfig(
        hidden_size=16,
        image_size=32,
        projection_dim=16,
        intermediate_size=16,
        num_attention_heads=2,
        num_hidden_layers=1,
        patch_size=16,
    )
    return {
        "prior_prior": prior,
        "prior_image_encoder": transformers.CLIPVisionModelWithProjection(vision),
        "prior_text_encoder": clip(projected=True),
        "prior_tokenizer": tokenizer(77),
        "prior_scheduler": diffusers.UnCLIPScheduler(
            variance_type="fixed_small_log", prediction_type="sample", clip_sample=True, clip_sample_range=10.0
        ),
        "prior_image_processor": transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32),
    }


def _kandinsky_unet(inpaint: bool = False, **options: Any) -> UNet2DConditionModel:
    return _unet(
        in_channels=9 if inpaint else 4,
        out_channels=8,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        encoder_hid_dim=16,
        resnet_time_scale_shift="scale_shift",
        **options,
    )


def _kandinsky(row: Row) -> dict[str, Any]:
    from diffusers.pipelines.kandinsky.text_encoder import MCLIPConfig, MultilingualCLIP

    encoder = MultilingualCLIP(
        MCLIPConfig(
            numDims=16,
            transformerDimensions=16,
            hidden_size=16,
            intermediate_size=16,
            num_attention_heads=2,
            num_hidden_layers=1,
            vocab_size=VOCABULARY,
        )
    )
    return {
        "unet": _kandinsky_unet(addition_embed_type="text_image", encoder_hid_dim_type="text_image_proj"),
        "text_encoder": encoder,
        "tokenizer": tokenizer(77),
        "movq": _movq(),
        "scheduler": ddim(),
        **_kandinsky_prior(),
    }


def _kandinsky22(row: Row) -> dict[str, Any]:
    return {
        "unet": _kandinsky_unet(addition_embed_type="image", encoder_hid_dim_type="image_proj"),
        "movq": _movq(),
        "scheduler": ddim(),
        **_kandinsky_prior(),
    }


def _kandinsky3(row: Row) -> dict[str, Any]:
    return {
        "unet": diffusers.Kandinsky3UNet(
            in_channels=4,
            time_embedding_dim=4,
            groups=2,
            attention_head_dim=4,
            layers_per_block=3,
            block_out_channels=(8, 16),
            cross_attention_dim=4,
            encoder_hid_dim=16,
        ),
        "text_encoder": t5(),
        "tokenizer": tokenizer(128),
        "movq": _movq(),
        "scheduler": diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
    }


def _cascade(row: Row) -> dict[str, Any]:
    from diffusers.pipelines.deprecated.wuerstchen import PaellaVQModel

    return {
        "prior_prior": diffusers.StableCascadeUNet(
            conditioning_dim=16,
            block_out_channels=(16, 16),
            num_attention_heads=(2, 2),
            down_num_layers_per_block=(1, 1),
            up_num_layers_per_block=(1, 1),
            clip_image_in_channels=16,
            switch_level=(False,),
            clip_text_in_channels=16,
            clip_text_pooled_in_channels=16,
        ),
        "prior_text_encoder": clip(projected=True),
        "prior_tokenizer": tokenizer(77),
        "prior_scheduler": diffusers.DDPMWuerstchenScheduler(),
        "decoder": diffusers.StableCascadeUNet(
            in_channels=4,
            out_channels=4,
            conditioning_dim=16,
            block_out_channels=(8, 8, 16, 16),
            num_attention_heads=(-1, -1, 1, 2),
            down_num_layers_per_block=(1, 1, 1, 1),
            up_num_layers_per_block=(1, 1, 1, 1),
            down_blocks_repeat_mappers=(1, 1, 1, 1),
            up_blocks_repeat_mappers=(1, 1, 1, 1),
            block_types_per_layer=(
                ("SDCascadeResBlock", "SDCascadeTimestepBlock"),
                ("SDCascadeResBlock", "SDCascadeTimestepBlock"),
                ("SDCascadeResBlock", "SDCascadeTimestepBlock", "SDCascadeAttnBlock"),
                ("SDCascadeResBlock", "SDCascadeTimestepBlock", "SDCascadeAttnBlock"),
            ),
            switch_level=None,
            dropout=(0.0,) * 4,
            clip_text_pooled_in_channels=16,
        ),
        "text_encoder": clip(projected=True),
        "tokenizer": tokenizer(77),
        "scheduler": diffusers.DDPMWuerstchenScheduler(),
        "vqgan": PaellaVQModel(bottleneck_blocks=1, num_vq_embeddings=2, embed_dim=8),
    }


def _wuerstchen(row: Row) -> dict[str, Any]:
    from diffusers.pipelines.deprecated.wuerstchen import PaellaVQModel, WuerstchenDiffNeXt, WuerstchenPrior

    return {
        "prior_prior": WuerstchenPrior(c_in=2, c=8, depth=2, c_cond=16, c_r=8, nhead=2),
        "prior_text_encoder": clip(),
        "prior_tokenizer": tokenizer(77),
        "prior_scheduler": diffusers.DDPMWuerstchenScheduler(),
        "decoder": WuerstchenDiffNeXt(
            c_cond=16,
            c_hidden=[16, 32, 64, 128],
            nhead=[-1, -1, 1, 1],
            blocks=[1, 1, 1, 1],
            level_config=["CT", "CT", "CTA", "CTA"],
            inject_effnet=[False, True, True, True],
            effnet_embd=2,
            clip_embd=16,
        ),
        "text_encoder": clip(),
        "tokenizer": tokenizer(77),
        "scheduler": diffusers.DDPMWuerstchenScheduler(),
        "vqgan": PaellaVQModel(bottleneck_blocks=1, num_vq_embeddings=2, embed_dim=8),
    }


# FLUX.1 and Stable Diffusion 3


def _flux(row: Row) -> dict[str, Any]:
    sizes: dict[str, Any] = {
        "patch_size": 1,
        "in_channels": 16,
        "num_layers": 1,
        "num_single_layers": 1,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "joint_attention_dim": 16,
        "pooled_projection_dim": 16,
        "axes_dims_rope": (4, 4, 8),
        "guidance_embeds": True,
    }
    channels = {"in_channels": 32, "out_channels": 16} if row.key == "flux-control" else {}
    control = {"controlnet": diffusers.FluxControlNetModel(**sizes)} if row.key == "flux-controlnet" else {}
    return {
        "transformer": diffusers.FluxTransformer2DModel(**{**sizes, **channels}),
        "text_encoder": clip(),
        "tokenizer": tokenizer(77),
        "text_encoder_2": t5(),
        "tokenizer_2": tokenizer(512),
        "vae": flux_kl(),
        "scheduler": flow(use_dynamic_shifting=True),
        **control,
    }


def _sd3(row: Row) -> dict[str, Any]:
    sizes: dict[str, Any] = {
        "sample_size": 8,
        "patch_size": 1,
        "in_channels": 4,
        "num_layers": 2,
        "attention_head_dim": 8,
        "num_attention_heads": 2,
        "joint_attention_dim": 32,
        "caption_projection_dim": 16,
        "pooled_projection_dim": 32,
        "out_channels": 4,
    }
    control = {"controlnet": diffusers.SD3ControlNetModel(**{**sizes, "num_layers": 1})} if row.controlled else {}
    return {
        "transformer": diffusers.SD3Transformer2DModel(**sizes),
        "text_encoder": clip(projected=True),
        "tokenizer": tokenizer(77),
        "text_encoder_2": clip(projected=True),
        "tokenizer_2": tokenizer(77),
        "text_encoder_3": t5(32),
        "tokenizer_3": tokenizer(256),
        "vae": flux_kl(),
        "scheduler": flow(),
        **control,
    }


# Encoders that see pictures too, and their kin


def _qwen3(kind: str, layers: int = 2, vision: bool = False) -> Any:
    text: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    if not vision:
        return getattr(transformers, kind)(transformers.Qwen3Config(**text))
    config = transformers.Qwen3VLConfig(
        text_config={**text, "rope_scaling": {"mrope_section": [1, 1, 2], "rope_type": "default"}},
        vision_config={
            "depth": 2,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "out_hidden_size": 16,
            "deepstack_visual_indexes": [0],
        },
        **_marks(),
    )
    return getattr(transformers, kind)(config)


def _marks() -> dict[str, int]:
    ids = tokenizer(marks=True).convert_tokens_to_ids
    return {
        "vision_start_token_id": ids("<|vision_start|>"),
        "vision_end_token_id": ids("<|vision_end|>"),
        "image_token_id": ids("<|image_pad|>"),
        "video_token_id": ids("<|video_pad|>"),
    }


def _qwen_vl() -> Any:
    config = transformers.Qwen2_5_VLConfig(
        text_config={
            "vocab_size": VOCABULARY,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "rope_scaling": {"mrope_section": [1, 1, 2], "rope_type": "default"},
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
        },
        vision_config={
            "depth": 2,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "out_hidden_size": 16,
        },
        **_marks(),
    )
    return transformers.Qwen2_5_VLForConditionalGeneration(config)


def _qwen_vae(kind: str = "AutoencoderKLQwenImage") -> Any:
    """Factor 8."""
    return getattr(diffusers, kind)(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.1] * 4,
        latents_std=[0.9] * 4,
    )


def _qwen_image(row: Row) -> dict[str, Any]:
    sizes: dict[str, Any] = {
        "patch_size": 2,
        "in_channels": 16,
        "out_channels": 4,
        "num_layers": 1,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "joint_attention_dim": 16,
        "axes_dims_rope": (8, 4, 4),
    }
    parts = {
        "transformer": diffusers.QwenImageTransformer2DModel(**sizes),
        "text_encoder": _qwen_vl(),
        "tokenizer": tokenizer(1024, marks=True),
        "vae": _qwen_vae(),
        "scheduler": flow(use_dynamic_shifting=True),
    }
    return {**parts, "controlnet": diffusers.QwenImageControlNetModel(**sizes)}


def _z_image(row: Row) -> dict[str, Any]:
    sizes: dict[str, Any] = {
        "all_patch_size": (2,),
        "all_f_patch_size": (1,),
        "dim": 32,
        "n_refiner_layers": 1,
        "n_heads": 2,
        "n_kv_heads": 2,
        "norm_eps": 1e-5,
        "qk_norm": True,
    }
    omni = row.key == "z-image-omni"
    transformer = diffusers.ZImageTransformer2DModel(
        **sizes,
        in_channels=4,
        n_layers=2,
        cap_feat_dim=16,
        siglip_feat_dim=16 if omni else None,
        axes_dims=[8, 4, 4],
        axes_lens=[1024, 64, 64],
    )
    parts = {
        "transformer": transformer,
        "text_encoder": _qwen3("Qwen3Model"),
        "tokenizer": tokenizer(512, marks=True),
        "vae": flux_kl(),
        "scheduler": flow(),
    }
    if omni:
        vision = transformers.Siglip2VisionConfig(
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_patches=16,
            patch_size=16,
        )
        seeing = {
            "siglip": transformers.Siglip2VisionModel(vision),
            "siglip_processor": transformers.Siglip2ImageProcessor(patch_size=16, max_num_patches=16),
        }
        return {**parts, **seeing}
    control = diffusers.ZImageControlNetModel(
        **sizes,
        control_layers_places=[0],
        control_refiner_layers_places=[0],
        control_in_dim=9 if "inpaint" in row.key else 4,
    )
    return {**parts, "controlnet": control}


def _ovis(row: Row) -> dict[str, Any]:
    return {
        "transformer": diffusers.OvisImageTransformer2DModel(
            patch_size=1,
            in_channels=16,
            out_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=16,
            axes_dims_rope=(4, 4, 8),
        ),
        "text_encoder": _qwen3("Qwen3Model"),
        "tokenizer": tokenizer(512, marks=True),
        "vae": flux_kl(),
        "scheduler": flow(),
    }


def _krea2(row: Row) -> dict[str, Any]:
    return {
        "transformer": diffusers.Krea2Transformer2DModel(
            in_channels=16,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=4,
            num_key_value_heads=2,
            intermediate_size=32,
            timestep_embed_dim=8,
            text_hidden_dim=16,
            num_text_layers=3,
            text_num_attention_heads=2,
            text_num_key_value_heads=1,
            text_intermediate_size=16,
            num_layerwise_text_blocks=1,
            num_refiner_text_blocks=1,
            axes_dims_rope=(4, 2, 2),
            rope_theta=1000.0,
        ),
        "text_encoder": _qwen3("Qwen3VLModel", vision=True),
        "tokenizer": tokenizer(1024, marks=True),
        "vae": _qwen_vae(),
        "scheduler": flow(use_dynamic_shifting=True),
        "text_encoder_select_layers": (0, 1, 2),
    }


def _flux2_vae() -> Any:
    return diffusers.AutoencoderKLFlux2(
        block_out_channels=(4, 4, 4, 4),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        norm_num_groups=2,
        layers_per_block=1,
    )


def _ideogram4(row: Row) -> dict[str, Any]:
    def transformer() -> Any:
        return diffusers.Ideogram4Transformer2DModel(
            in_channels=16,
            num_layers=1,
            attention_head_dim=16,
            num_attention_heads=1,
            intermediate_size=16,
            adaln_dim=8,
            llm_features_dim=16 * 13,
            mrope_section=(4, 2, 2),
        )

    return {
        "transformer": transformer(),
        "unconditional_transformer": transformer(),
        "text_encoder": _qwen3("Qwen3VLModel", layers=36, vision=True),
        "tokenizer": tokenizer(2048, marks=True),
        "vae": _flux2_vae(),
        "scheduler": flow(),
    }


def _glm(row: Row) -> dict[str, Any]:
    # The ids that end a picture or a text stand outside what the encoder can draw, so it always draws all tokens.
    text = {
        "vocab_size": 64,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "pad_token_id": 0,
        "eos_token_id": 60,
        "vision_vocab_size": 32,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]},
    }
    vision = {
        "depth": 1,
        "hidden_size": 16,
        "num_heads": 2,
        "intermediate_size": 16,
        "image_size": 64,
        "patch_size": 32,
    }
    pictures = {"image_token": "<|image_pad|>", "grid_bos_token": "[IMG]", "grid_eos_token": "[IMG_END]"}
    seeing = tokenizer(2048, marks=True, extra_special_tokens=pictures)
    encoder = transformers.GlmImageForConditionalGeneration(
        transformers.GlmImageConfig(
            text_config=text,
            vision_config=vision,
            vq_config={"embed_dim": 16, "num_embeddings": 32, "latent_channels": 16},
            image_token_id=seeing.convert_tokens_to_ids("<|image_pad|>"),
            image_start_token_id=61,
            image_end_token_id=62,
        )
    )
    transformer = diffusers.GlmImageTransformer2DModel(
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        text_embed_dim=16,
        time_embed_dim=8,
        condition_dim=4,
        prior_vq_quantizer_codebook_size=32,
    )
    return {
        "transformer": _strong(transformer, 2.0),
        "vision_language_encoder": _strong(encoder, 30.0),
        "processor": transformers.GlmImageProcessor(
            transformers.GlmImageImageProcessorPil(patch_size=32, merge_size=1, temporal_patch_size=1),
            seeing,
            chat_template=CHAT,
        ),
        "text_encoder": t5(),
        "tokenizer": tokenizer(2048),
        "vae": kl(latents_mean=[0.1] * 4, latents_std=[0.9] * 4),
        "scheduler": flow(
            base_shift=0.25,
            max_shift=0.75,
            base_image_seq_len=256,
            use_dynamic_shifting=True,
            time_shift_type="linear",
        ),
    }


BUILT: dict[str, Callable[[Row], dict[str, Any]]] = {
    "auraflow": _auraflow,
    "cascade": _cascade,
    "chroma": _chroma,
    "cogview3": _cogview3,
    "cogview4": _cogview4,
    "cogview4-control": _cogview4,
    "flux-control": _flux,
    "flux-controlnet": _flux,
    "flux-kontext": _flux,
    "glm_image": _glm,
    "helios": _helios,
    "helios-pyramid": _helios,
    "hunyuan": _hunyuan,
    "hunyuan-pag": _hunyuan,
    "ideogram4": _ideogram4,
    "if": _if,
    "kandinsky": _kandinsky,
    "kandinsky22": _kandinsky22,
    "kandinsky3": _kandinsky3,
    "kolors": _kolors,
    "kolors-pag": _kolors,
    "krea2": _krea2,
    "lcm": _lcm,
    "lumina": _lumina,
    "lumina2": _lumina2,
    "ovis": _ovis,
    "pixart-alpha": _pixart,
    "pixart-sigma": _pixart,
    "pixart-sigma-pag": _pixart,
    "prx": _prx,
    "qwenimage-controlnet": _qwen_image,
    "sana": _sana,
    "sana-pag": _sana,
    "stable-diffusion-3-controlnet": _sd3,
    "stable-diffusion-3-pag": _sd3,
    "stable-diffusion-controlnet": _sd,
    "stable-diffusion-controlnet-pag": _sd,
    "stable-diffusion-pag": _sd,
    "stable-diffusion-xl-controlnet": _sdxl,
    "stable-diffusion-xl-controlnet-pag": _sdxl,
    "stable-diffusion-xl-controlnet-union": _sdxl,
    "stable-diffusion-xl-pag": _sdxl,
    "wuerstchen": _wuerstchen,
    "z-image-controlnet": _z_image,
    "z-image-controlnet-inpaint": _z_image,
    "z-image-omni": _z_image,
}
"""Key → the parts of its pipeline."""
