"""The configurations of `transformers_small`, by what the networks are for."""

from functools import partial

from .transformers_small import (
    Config,
    Family,
    draw_both,
    draw_features,
    draw_image_tokens,
    draw_mel,
    draw_noise,
    draw_patch_mask,
    draw_patches,
    draw_pixels,
    draw_states,
    draw_tokens,
    draw_waves,
)

_IMAGE = draw_pixels
_VIT = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128,
            image_size=32, patch_size=8)  # fmt: skip
_TEXT = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128,
             vocab_size=99, max_position_embeddings=32)  # fmt: skip
_RESNET = Config("ResNetConfig", dict(
    embedding_size=16, hidden_sizes=[16, 24, 32, 48], depths=[1, 1, 1, 1], layer_type="basic",
    out_features=["stage1", "stage2", "stage3", "stage4"]))  # fmt: skip
_SWIN = Config("SwinConfig", dict(
    image_size=64, embed_dim=16, depths=[1, 1, 1, 1], num_heads=[2, 2, 4, 4], window_size=4,
    out_features=["stage1", "stage2", "stage3", "stage4"]))  # fmt: skip
_DETR = dict(
    d_model=32, encoder_layers=1, decoder_layers=2, encoder_attention_heads=4,
    decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48, num_queries=9,
)  # fmt: skip
_REAL_TIME = dict(
    d_model=32, encoder_hidden_dim=32, encoder_layers=1, decoder_layers=2, num_queries=9,
    encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48,
    encoder_in_channels=[24, 32, 48], decoder_in_channels=[32, 32, 32],
)  # fmt: skip
_CLIP_VISION, _CLIP_TEXT = {**_VIT}, {**_TEXT, "eos_token_id": 98}
_BOTH = partial(draw_both, draw_tokens, _IMAGE)

VISION = {
    "Dinov2WithRegisters": Family("Dinov2WithRegistersForImageClassification", _VIT, _IMAGE),
    "DINOv3ViT": Family("DINOv3ViTModel", {**_VIT, "num_register_tokens": 4}, _IMAGE),
    "DINOv3ConvNext": Family(
        "DINOv3ConvNextModel", dict(hidden_sizes=[16, 24, 32, 48], depths=[1, 1, 2, 1]), _IMAGE
    ),
    "Siglip2Vision": Family(
        "Siglip2VisionModel", {**_VIT, "num_patches": 16},
        lambda: draw_patches(16, 192, (4, 4)),
    ),
    "Owlv2": Family(
        "Owlv2ForObjectDetection",
        dict(vision_config=_CLIP_VISION, text_config=_CLIP_TEXT, projection_dim=64), _BOTH,
    ),
    "OwlViT": Family(
        "OwlViTForObjectDetection",
        dict(vision_config=_CLIP_VISION, text_config=_CLIP_TEXT, projection_dim=64), _BOTH,
    ),
    "CLIPSeg": Family(
        "CLIPSegForImageSegmentation",
        dict(vision_config={**_VIT, "num_hidden_layers": 3}, text_config=_CLIP_TEXT,
             projection_dim=64, extract_layers=[0, 1, 2], reduce_dim=32,
             decoder_num_attention_heads=4, decoder_intermediate_size=64), _BOTH,
    ),
    "GroupViT": Family(
        "GroupViTVisionModel",
        {**_VIT, "depths": [1, 1, 1], "num_hidden_layers": 3, "num_group_tokens": [8, 4, 0],
         "num_output_groups": [8, 4, 4]}, _IMAGE,
    ),
    "FocalNet": Family(
        "FocalNetForImageClassification", dict(embed_dim=16, hidden_sizes=[32, 64, 64], depths=[1,
        2, 1],
        focal_levels=[2, 2, 2], focal_windows=[3, 3, 3], use_conv_embed=True,
        use_layerscale=True, image_size=64), partial(_IMAGE, 64),
    ),
    "PoolFormer": Family(
        "PoolFormerForImageClassification", dict(hidden_sizes=[16, 24, 32, 48], depths=[1, 1, 2,
        1]),
        partial(_IMAGE, 64),
    ),
    "MobileNetV1": Family("MobileNetV1ForImageClassification", dict(depth_multiplier=0.25),
        partial(_IMAGE, 64)),
    "MobileNetV2": Family("MobileNetV2ForImageClassification", dict(depth_multiplier=0.35),
        partial(_IMAGE, 64)),
    "MobileViTV2": Family(
        "MobileViTV2ForImageClassification", dict(image_size=64, n_attn_blocks=[1, 1, 1],
        width_multiplier=0.25,
        base_attn_unit_dims=[64, 128, 128]), partial(_IMAGE, 64),
    ),
    "EfficientNet": Family(
        "EfficientNetForImageClassification", dict(image_size=64, width_coefficient=1.0,
        depth_coefficient=1.0,
        kernel_sizes=[3, 3, 5], in_channels=[32, 16, 24], out_channels=[16, 24, 32],
        strides=[1, 2, 2], num_block_repeats=[1, 2, 2], expand_ratios=[1, 4, 4], hidden_dim=1280),
        partial(_IMAGE, 64),
    ),
    "RegNet": Family(
        "RegNetForImageClassification", dict(embedding_size=16, hidden_sizes=[16, 32, 48, 64],
        depths=[1, 1, 2, 1],
        groups_width=8), partial(_IMAGE, 64),
    ),
    "Levit": Family(
        "LevitForImageClassification", dict(image_size=64, hidden_sizes=[32, 48, 64],
        num_attention_heads=[2, 3, 4],
        depths=[1, 1, 1], key_dim=[8, 8, 8], down_ops=[["Subsample", 8, 4, 4, 2, 2],
        ["Subsample", 8, 6, 4, 2, 2]]), partial(_IMAGE, 64),
    ),
    "Bit": Family(
        "BitForImageClassification", dict(embedding_size=16, hidden_sizes=[32, 48, 64, 96],
        depths=[1, 1, 2, 1],
        num_groups=4), partial(_IMAGE, 64),
    ),
    "Data2VecVision": Family(
        "Data2VecVisionForImageClassification", {**_VIT, "use_relative_position_bias": True}, _IMAGE
    ),
    "ViTMAE": Family(
        "ViTMAEForPreTraining", {**_VIT, "decoder_hidden_size": 32, "decoder_num_hidden_layers": 1,
        "decoder_num_attention_heads": 4, "decoder_intermediate_size": 64},
        lambda: {**_IMAGE(), **draw_noise(16)},
    ),
    "ViTMSN": Family("ViTMSNForImageClassification", _VIT, _IMAGE),
    "VitDet": Family(
        "VitDetModel", {**_VIT, "mlp_ratio": 2, "window_size": 2, "window_block_indices": [0],
        "use_relative_position_embeddings": True, "pretrain_image_size": 32}, _IMAGE,
    ),
    "VitPose": Family(
        "VitPoseForPoseEstimation", dict(backbone_config=Config("VitPoseBackboneConfig", dict(
        image_size=[64, 48], patch_size=[16, 16], hidden_size=64, num_hidden_layers=2,
        num_attention_heads=4, mlp_ratio=2, out_indices=[2])), num_labels=5),
        partial(_IMAGE, 64, 48),
    ),
    "Swin2SR": Family(
        "Swin2SRForImageSuperResolution", dict(image_size=16, embed_dim=32, depths=[2, 2],
        num_heads=[4, 4], window_size=4, upscale=2), partial(_IMAGE, 16),
    ),
    "GLPN": Family(
        "GLPNForDepthEstimation", dict(depths=[1, 1, 1, 1], hidden_sizes=[16, 32, 48, 64],
        num_attention_heads=[1, 2, 3, 4], decoder_hidden_size=16), partial(_IMAGE, 64),
    ),
    "DepthAnything": Family(
        "DepthAnythingForDepthEstimation", dict(backbone_config=Config("Dinov2Config", dict(
        image_size=56, patch_size=14, hidden_size=64, num_hidden_layers=4, num_attention_heads=4,
        mlp_ratio=2, out_indices=[1, 2, 3, 4], apply_layernorm=True, reshape_hidden_states=False)),
        reassemble_hidden_size=64, neck_hidden_sizes=[16, 24, 32, 48], fusion_hidden_size=16,
        head_hidden_size=16, patch_size=14, depth_estimation_type="metric"), partial(_IMAGE, 56),
    ),
    "ZoeDepth": Family(
        "ZoeDepthForDepthEstimation", dict(backbone_config=Config("BeitConfig", dict(
        image_size=64, patch_size=16, hidden_size=64, num_hidden_layers=4, num_attention_heads=4,
        intermediate_size=128, out_indices=[1, 2, 3, 4], reshape_hidden_states=False,
        use_relative_position_bias=True)), neck_hidden_sizes=[16, 24, 32, 48],
        fusion_hidden_size=16, bottleneck_features=16, num_relative_features=16,
        bin_embedding_dim=16), partial(_IMAGE, 64),
    ),
    "DPTHybrid": Family(
        "DPTForDepthEstimation", dict(is_hybrid=True, hidden_size=64, num_hidden_layers=4,
        num_attention_heads=4, intermediate_size=128, image_size=64, patch_size=16,
        backbone_featmap_shape=[1, 64, 4, 4], neck_ignore_stages=[0, 1],
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[32, 48, 32, 48], fusion_hidden_size=16,
        backbone_config=Config("BitConfig", dict(embedding_size=16, hidden_sizes=[32, 48, 64],
        depths=[1, 1, 1], num_groups=4, global_padding="same", layer_type="bottleneck",
        embedding_dynamic_padding=True, out_features=["stage1", "stage2", "stage3"]))),
        partial(_IMAGE, 64),
    ),
    "UperNet": Family(
        "UperNetForSemanticSegmentation", dict(backbone_config=_SWIN, hidden_size=32,
        auxiliary_channels=16, auxiliary_in_channels=64), partial(_IMAGE, 64),
    ),
    "SamVision": Family(
        "SamVisionModel", dict(hidden_size=64, output_channels=32, num_hidden_layers=2,
        num_attention_heads=4, image_size=64, patch_size=8, window_size=3,
        global_attn_indexes=[1], mlp_dim=128, initializer_range=0.02), partial(_IMAGE, 64),
    ),
    "SuperPoint": Family(
        "SuperPointForKeypointDetection", dict(encoder_hidden_sizes=[16, 16, 24, 24],
        decoder_hidden_size=32, descriptor_decoder_dim=32),
        partial(_IMAGE, 64, 64, 1, name="input"), part="encoder",
    ),
    "TextNet": Family(
        "TextNetForImageClassification", dict(stem_out_channels=16, hidden_sizes=[16, 16, 24, 32,
        48]),
        partial(_IMAGE, 64),
    ),
    "Cvt": Family(
        "CvtForImageClassification", dict(embed_dim=[16, 32, 64], num_heads=[1, 2, 4], depth=[1,
        2, 3]),
        partial(_IMAGE, 64),
    ),
    "SwiftFormer": Family(
        "SwiftFormerForImageClassification", dict(depths=[1, 1, 2, 1], embed_dims=[16, 24, 32, 48]),
        partial(_IMAGE, 64),
    ),
    "HGNetV2": Family(
        "HGNetV2Backbone", dict(stem_channels=[3, 16, 16], stage_in_channels=[16, 32, 48, 64],
        stage_mid_channels=[16, 16, 16, 24], stage_out_channels=[32, 48, 64, 96],
        stage_num_blocks=[1, 1, 2, 1], stage_numb_of_layers=[2, 2, 2, 2]), partial(_IMAGE, 64),
    ),
}  # fmt: skip

DENSE = {
    "MaskFormer": Family(
        "MaskFormerForInstanceSegmentation", dict(backbone_config=_SWIN, fpn_feature_size=32,
        mask_feature_size=32, decoder_config=Config("DetrConfig", {**_DETR, "backbone_config":
        _RESNET})), partial(_IMAGE, 64),
    ),
    "Mask2Former": Family(
        "Mask2FormerForUniversalSegmentation", dict(backbone_config=_SWIN, feature_size=32,
        mask_feature_size=32, hidden_dim=32, encoder_feedforward_dim=48, encoder_layers=1,
        decoder_layers=3, num_attention_heads=4, dim_feedforward=48, num_queries=9),
        partial(_IMAGE, 64),
    ),
    "OneFormer": Family(
        "OneFormerForUniversalSegmentation", dict(backbone_config=_SWIN, num_queries=9,
        text_encoder_width=32, text_encoder_num_layers=1, text_encoder_vocab_size=99,
        text_encoder_context_length=7, task_seq_len=7, conv_dim=32, mask_dim=32, hidden_dim=32,
        encoder_feedforward_dim=48, encoder_layers=1, decoder_layers=3, num_attention_heads=4,
        dim_feedforward=48), lambda: {**_IMAGE(64), **draw_tokens(7, False, "task_inputs")},
    ),
    "Detr": Family("DetrForObjectDetection", {**_DETR, "backbone_config": _RESNET},
                   partial(_IMAGE, 64)),
    "ConditionalDetr": Family("ConditionalDetrForObjectDetection",
                              {**_DETR, "backbone_config": _RESNET}, partial(_IMAGE, 64)),
    "TableTransformer": Family("TableTransformerForObjectDetection",
                               {**_DETR, "backbone_config": _RESNET}, partial(_IMAGE, 64)),
    "DabDetr": Family("DabDetrForObjectDetection", {
        **{key: value for key, value in _DETR.items() if key != "d_model"}, "hidden_size": 32,
        "backbone_config": _RESNET}, partial(_IMAGE, 64)),
    "DeformableDetr": Family("DeformableDetrForObjectDetection",
                             {**_DETR, "backbone_config": _RESNET, "with_box_refine": True},
                             partial(_IMAGE, 64)),
    "RTDetrV2": Family("RTDetrV2ForObjectDetection", {**_REAL_TIME, "backbone_config": Config(
        "RTDetrResNetConfig", dict(embedding_size=16, hidden_sizes=[16, 24, 32, 48],
        depths=[1, 1, 1, 1], layer_type="basic", out_features=["stage2", "stage3", "stage4"]))},
        partial(_IMAGE, 64)),
    "DFine": Family("DFineForObjectDetection", {**_REAL_TIME, "backbone_config": Config(
        "HGNetV2Config", dict(stem_channels=[3, 16, 16], stage_in_channels=[16, 16, 24, 32],
        stage_mid_channels=[16, 16, 16, 24], stage_out_channels=[16, 24, 32, 48],
        stage_num_blocks=[1, 1, 1, 1], stage_numb_of_layers=[2, 2, 2, 2],
        hidden_sizes=[16, 24, 32, 48], out_features=["stage2", "stage3", "stage4"]))},
        partial(_IMAGE, 64)),
    "GroundingDino": Family("GroundingDinoForObjectDetection", {
        **_DETR, "backbone_config": Config("SwinConfig", {**_SWIN.settings,
        "out_features": ["stage2", "stage3", "stage4"]}), "text_config": Config("BertConfig",
        _TEXT), "max_text_len": 16}, partial(draw_both, draw_tokens, partial(_IMAGE, 64))),
}  # fmt: skip

VIDEO = {
    "Timesformer": Family("TimesformerForVideoClassification", {**_VIT, "num_frames": 4},
                          partial(_IMAGE, 32, 32, 4, 3)),
    "VideoMAE": Family("VideoMAEForVideoClassification", {**_VIT, "num_frames": 4},
                       partial(_IMAGE, 32, 32, 4, 3)),
    "Vivit": Family("VivitForVideoClassification", {**_VIT, "num_frames": 4, "tubelet_size": [2,
        8, 8]},
                    partial(_IMAGE, 32, 32, 4, 3)),
    "VJEPA2": Family("VJEPA2ForVideoClassification", dict(crop_size=32, patch_size=8,
        frames_per_clip=4,
        hidden_size=64, num_attention_heads=4, num_hidden_layers=2, mlp_ratio=2.0,
        pred_hidden_size=48, pred_num_attention_heads=4, pred_num_hidden_layers=2),
        partial(_IMAGE, 32, 32, 4, 3, name="pixel_values_videos")),
    "XCLIP": Family("XCLIPModel", dict(
        vision_config={**_VIT, "num_frames": 4, "mit_hidden_size": 64,
                       "mit_intermediate_size": 128, "mit_num_attention_heads": 4},
        text_config=_CLIP_TEXT, projection_dim=64, prompt_num_attention_heads=4),
        partial(draw_both, draw_tokens, partial(_IMAGE, 32, 32, 4, 3))),
}  # fmt: skip

LANGUAGE = {
    "TrOCR": Family("TrOCRForCausalLM", dict(use_cache=False, vocab_size=99, d_model=64,
        decoder_layers=2,
        decoder_attention_heads=4, decoder_ffn_dim=128, max_position_embeddings=32,
        is_decoder=True, cross_attention_hidden_size=48),
        lambda: {**draw_tokens(), **draw_states(5, 48)}),
    "DonutSwin": Family("DonutSwinForImageClassification", dict(image_size=64, embed_dim=16,
        depths=[1, 2, 1],
        num_heads=[2, 2, 4], window_size=4), partial(_IMAGE, 64)),
    "PaliGemma": Family("PaliGemmaForConditionalGeneration", dict(
        vision_config={**_VIT, "model_type": "siglip_vision_model", "projection_dim": 64},
        text_config=dict(model_type="gemma", use_cache=False, hidden_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=1, head_dim=16, intermediate_size=128,
        vocab_size=99), image_token_index=98, projection_dim=64),
        lambda: {**_IMAGE(), **draw_image_tokens(16, 98, kinds=True)}),
    "Blip2": Family("Blip2Model", dict(
        vision_config=_VIT, qformer_config={**_TEXT, "encoder_hidden_size": 64},
        text_config=dict(model_type="opt", use_cache=False, hidden_size=64, num_hidden_layers=2,
        num_attention_heads=4, ffn_dim=128, vocab_size=99, max_position_embeddings=64,
        word_embed_proj_dim=64), num_query_tokens=4, image_token_index=98),
        lambda: {**_IMAGE(), **draw_image_tokens(4, 98)}),
    "Align": Family("AlignModel", dict(text_config=_TEXT, vision_config=dict(
        image_size=64, width_coefficient=1.0, depth_coefficient=1.0, kernel_sizes=[3, 3, 5],
        in_channels=[32, 16, 24], out_channels=[16, 24, 32], strides=[1, 2, 2],
        num_block_repeats=[1, 2, 2], expand_ratios=[1, 4, 4], hidden_dim=32), projection_dim=32),
        partial(draw_both, draw_tokens, partial(_IMAGE, 64))),
    "AltCLIP": Family("AltCLIPModel", dict(vision_config=_VIT, text_config={
        **_TEXT, "project_dim": 64}, projection_dim=64), _BOTH),
    "ChineseCLIP": Family("ChineseCLIPModel", dict(vision_config=_VIT, text_config=_TEXT,
                          projection_dim=64), _BOTH),
    "Kosmos2Vision": Family("Kosmos2Model", dict(vision_config=_VIT, text_config=dict(
        vocab_size=99, embed_dim=64, layers=2, ffn_dim=128, attention_heads=4,
        max_position_embeddings=32), latent_query_num=4), _IMAGE, part="vision_model"),
    "Idefics3Vision": Family("Idefics3VisionTransformer", _VIT, lambda: {
        **_IMAGE(), **draw_patch_mask(4)}),
    "Idefics2Vision": Family("Idefics2Model", dict(vision_config=_VIT, text_config=dict(
        model_type="llama", **_TEXT)), lambda: {**_IMAGE(), **draw_patch_mask(4)},
        part="vision_model"),
    "Bert": Family("BertForSequenceClassification", _TEXT, draw_tokens),
    "DistilBert": Family("DistilBertForSequenceClassification", dict(vocab_size=99,
        max_position_embeddings=32,
        n_layers=2, n_heads=4, dim=64, hidden_dim=128), draw_tokens),
    "Roberta": Family("RobertaForSequenceClassification", _TEXT, draw_tokens),
    "Albert": Family("AlbertForSequenceClassification", {**_TEXT, "embedding_size": 32},
        draw_tokens),
    "DebertaV2": Family("DebertaV2ForSequenceClassification", {**_TEXT, "relative_attention": True,
        "position_buckets": 8, "pos_att_type": ["p2c", "c2p"], "norm_rel_ebd": "layer_norm",
        "share_att_key": True}, draw_tokens),
    "MPNet": Family("MPNetForSequenceClassification", _TEXT, draw_tokens),
    "Electra": Family("ElectraForSequenceClassification", {**_TEXT, "embedding_size": 32},
        draw_tokens),
    "T5Encoder": Family("T5EncoderModel", dict(vocab_size=99, d_model=64, d_kv=16, d_ff=128,
        num_layers=2, num_heads=4, feed_forward_proj="gated-gelu"), draw_tokens),
    "T5": Family("T5ForConditionalGeneration", dict(use_cache=False, vocab_size=99, d_model=64,
        d_kv=16, d_ff=128, num_layers=2,
        num_heads=4), lambda: {**draw_tokens(), **draw_tokens(5, False, "decoder_input_ids")}),
    "GPT2": Family("GPT2LMHeadModel", dict(vocab_size=99, n_positions=32, n_embd=64, n_layer=2,
        n_head=4, use_cache=False), draw_tokens),
    "Llama": Family("LlamaForCausalLM", {**_TEXT, "num_key_value_heads": 2, "head_dim": 16,
        "use_cache": False}, draw_tokens),
    "Qwen2": Family("Qwen2ForCausalLM", {**_TEXT, "num_key_value_heads": 2, "use_cache": False},
                    draw_tokens),
    "Bart": Family("BartForConditionalGeneration", dict(use_cache=False, vocab_size=99,
        d_model=64, encoder_layers=1,
        decoder_layers=1, encoder_attention_heads=4, decoder_attention_heads=4,
        encoder_ffn_dim=128, decoder_ffn_dim=128, max_position_embeddings=32),
        lambda: {**draw_tokens(), **draw_tokens(5, False, "decoder_input_ids")}),
    "ModernBert": Family("ModernBertForSequenceClassification", {**_TEXT, "pad_token_id": 0},
        draw_tokens),
    "ConvBert": Family("ConvBertForSequenceClassification", {**_TEXT, "embedding_size": 32,
        "conv_kernel_size": 3},
                       draw_tokens),
    "SqueezeBert": Family("SqueezeBertForSequenceClassification", {**_TEXT, "embedding_size": 64},
        draw_tokens),
    "FNet": Family("FNetForSequenceClassification", dict(vocab_size=99, hidden_size=64,
        num_hidden_layers=2,
        intermediate_size=128, max_position_embeddings=32), partial(draw_tokens, 7, False)),
    "Funnel": Family("FunnelBaseModel", dict(vocab_size=99, block_sizes=[1, 1], d_model=64,
        n_head=4, d_head=16, d_inner=128), partial(draw_tokens, 8)),
    "Perceiver": Family("PerceiverModel", dict(num_latents=8, d_latents=64, d_model=48,
        num_self_attends_per_block=2, num_self_attention_heads=4, num_cross_attention_heads=4),
        lambda: draw_features(10, 48)),
    "XLNet": Family("XLNetForSequenceClassification", dict(vocab_size=99, d_model=64, n_layer=2,
        n_head=4,
        d_inner=128, mem_len=None), draw_tokens),
}  # fmt: skip

SOUND = {
    "Whisper": Family("WhisperModel", dict(vocab_size=99, num_mel_bins=16, encoder_layers=2,
        encoder_attention_heads=4, decoder_layers=2, decoder_attention_heads=4,
        decoder_ffn_dim=128, encoder_ffn_dim=128, d_model=64, max_source_positions=16,
        max_target_positions=16, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        decoder_start_token_id=1, use_cache=False),
        lambda: {**draw_mel(16, 32), **draw_tokens(5, False, "decoder_input_ids")}),
    "Wav2Vec2": Family("Wav2Vec2ForSequenceClassification", {
        **_TEXT, "conv_dim": [32, 32, 32], "conv_stride": [5, 2, 2], "conv_kernel": [10, 3, 2],
        "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}, draw_waves),
    "Hubert": Family("HubertForSequenceClassification", {
        **_TEXT, "conv_dim": [32, 32, 32], "conv_stride": [5, 2, 2], "conv_kernel": [10, 3, 2],
        "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4,
        "do_stable_layer_norm": True, "feat_extract_norm": "layer"}, draw_waves),
    "WavLM": Family("WavLMForSequenceClassification", {
        **_TEXT, "conv_dim": [32, 32, 32], "conv_stride": [5, 2, 2], "conv_kernel": [10, 3, 2],
        "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}, draw_waves),
    "SEW": Family("SEWForSequenceClassification", {
        **_TEXT, "conv_dim": [32, 32, 32], "conv_stride": [5, 2, 2], "conv_kernel": [10, 3, 2],
        "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}, draw_waves),
    "AST": Family("ASTModel", dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=128, patch_size=8, frequency_stride=8, time_stride=8, max_length=32,
        num_mel_bins=16), lambda: {"input_values": draw_mel(32, 16)["input_features"]}),
}  # fmt: skip

FAMILIES = {**VISION, **DENSE, **VIDEO, **LANGUAGE, **SOUND}
