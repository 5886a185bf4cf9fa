"""transformers' BERT from scratch, shared by the prompt encoder and the autoencoder of text (method E1, E8)."""

from __future__ import annotations

from typing import Any, cast

from transformers import BertConfig, BertModel


def bert(vocabulary: int, length: int, width: int, depth: int, num_heads: int, **options: Any) -> BertModel:
    """Build a BERT without a pooler: ids below ``vocabulary``, at most ``length`` tokens of ``width`` features.

    ``options`` go to transformers' ``BertConfig``.
    """
    network = BertModel(
        BertConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            num_hidden_layers=depth,
            num_attention_heads=num_heads,
            intermediate_size=4 * width,
            max_position_embeddings=length,
            type_vocab_size=1,
            # With a padding id, the embedding of that id would never learn; the mask decides which ids are padding.
            pad_token_id=cast(int, None),
            **options,
        ),
        add_pooling_layer=False,
    )
    for layer in network.encoder.layer:
        # Softmax ignores what all keys share: a bias there would get no gradient, only rounding noise.
        layer.get_submodule("attention.self.key").register_parameter("bias", None)
    return network
