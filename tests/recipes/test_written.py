"""What a decoder alone writes is scored from the question; the answer beside it in the batch is not read."""

import types

import jax
import numpy as np
import pytest

from models import decoder, stack
from recipes import mesh, recipe, scores
from tasks import batches, pieces, specials

SPECIAL = specials.Specials(size=20)
MODEL = decoder.Decoder(stack=stack.Stack(layers=1, width=16, heads=2, mlp=16, positions="rotary"), vocabulary=20)
ASKED = ([5, 6, 7], [8, 9])


def batch(answers, prefix):
    read = pieces.Pieces.of([[np.array(ids, np.int32)] for ids in ASKED])
    written = pieces.Pieces.of([[np.array([*ids, 1], np.int32)] for ids in answers])
    made = batches.prefixed(read, written, length=10, pad=0, start=0)
    kept = {name: value for name, value in made.items() if prefix or name != "decoder_prefix"}
    return {**kept, "part": np.zeros(2, np.int32)}


@pytest.mark.parametrize("prefix", [True, False])
def test_a_decoder_answers_the_question_alone(prefix):
    rng = np.random.default_rng(0)
    params = {path: rng.normal(size=leaf.shape).astype(np.float32) for path, leaf in MODEL.abstract().items()}
    data = types.SimpleNamespace(
        targets=4, specials=lambda: SPECIAL, text=lambda ids: " ".join(str(int(i)) for i in ids if i > 1)
    )
    over = mesh.build(recipe.Mesh(data=1), jax.devices()[:1])
    score = scores.ExactMatch()

    def answered(answers):
        return score.answers(MODEL, params, data, [batch(answers, prefix)], over)

    one, other = answered([[11, 12], [13]]), answered([[14], [15, 16, 17]])
    assert [answer.wanted for answer in one] == ["11 12", "13"] != [answer.wanted for answer in other]
    assert [answer.predicted for answer in one] == [answer.predicted for answer in other]
    # The first token written is the likeliest after the question, by the forward pass over question and answer.
    alone = batch([[11, 12], [13]], prefix)
    output = MODEL.apply(params, {name: value for name, value in alone.items() if name.startswith("decoder_")})
    likeliest = np.asarray(output.readout.logits(output.hidden)).argmax(axis=-1)
    first = [int(likeliest[row, len(ids)]) for row, ids in enumerate(ASKED)]
    assert [answer.predicted.split()[0] if answer.predicted else "" for answer in one] == [
        str(token) if token > 1 else "" for token in first
    ]
