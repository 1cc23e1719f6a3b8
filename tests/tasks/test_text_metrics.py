import math

import numpy as np
import pytest

from tasks import text_metrics


def test_squad_normalises_as_its_script():
    predicted = ["The  Cat!", "a dog barks", "no"]
    wanted = [["cat"], ["dog", "the dog bites loudly"], "yes"]
    found = text_metrics.squad(predicted, wanted)
    # 1; best of 2·1/(2+1) and 2·1/(2+3); 0.
    assert found == {"f1": pytest.approx((1 + 2 / 3) / 3), "exact_match": pytest.approx(1 / 3)}


def test_squad_is_that_of_t5():
    from t5.evaluation import qa_utils

    rng, words = np.random.default_rng(0), ["The", "cat.", "a", "dog", "sat,", "«on»", "an", "über"]
    for _ in range(30):
        texts = [" ".join(rng.choice(words, rng.integers(1, 5))) for _ in range(9)]
        wanted = [texts[1:3], texts[3:4], texts[4:6]]
        normal = qa_utils.normalize_squad
        want = qa_utils.qa_metrics([[normal(t) for t in ts] for ts in wanted], [normal(t) for t in texts[6:]])
        found = text_metrics.squad(texts[6:], wanted)
        assert [100 * found["f1"], 100 * found["exact_match"]] == pytest.approx([want["f1"], want["em"]])


def test_squad_by_language():
    assert text_metrics.squad(["der «Hund»"], ["Hund"])["exact_match"] == 0.0
    assert text_metrics.squad(["der «Hund»"], ["Hund"], language="de")["exact_match"] == 1.0
    assert text_metrics.squad(["the dog"], ["dog"], language="de")["exact_match"] == 0.0
    assert text_metrics.squad(["東京都です"], ["東京都。"])["f1"] == 0.0
    assert text_metrics.squad(["東京都です"], ["東京都。"], language="ja")["f1"] == pytest.approx(2 * 3 / 8)


def test_bleu_by_hand():
    # Precisions 3/4, 2/3, 1/2 and, of no 4-gram among 1, 1/2 (exponential smoothing); as long as the reference.
    want = 100 * math.exp((math.log(3 / 4) + math.log(2 / 3) + math.log(1 / 2) + math.log(1 / 2)) / 4)
    assert text_metrics.bleu(["a b c x"], ["a b c d"])["bleu"] == pytest.approx(want)
    assert text_metrics.bleu(["a b c d e"], [["x", "a b c d e"]])["bleu"] == pytest.approx(100)
    assert text_metrics.bleu(["東京都です"], ["東京都です"], tokenize="char")["bleu"] == pytest.approx(100)
    with pytest.raises(ValueError, match="no tokeniser 'klingon'"):
        text_metrics.bleu(["a"], ["a"], tokenize="klingon")


def test_references_may_be_fewer_for_some_texts():
    predicted, wanted = ["a b c d", "e f g h"], [["a b c d", "x"], ["e f g h"]]
    assert text_metrics.bleu(predicted, wanted)["bleu"] == pytest.approx(100)
    assert text_metrics.chrf(predicted, wanted)["chrf"] == pytest.approx(100)


def test_chrf_by_hand():
    # Unigrams 3/4 both ways, bigrams 2/3, trigrams 1/2, and no 4-gram of one: the mean of the orders that occur.
    share = (3 / 4 + 2 / 3 + 1 / 2 + 0) / 4
    assert text_metrics.chrf(["abcx"], ["abcd"])["chrf"] == pytest.approx(100 * share)


def test_rouge_by_hand():
    found = text_metrics.rouge(["the cat sat here"], ["the cat lay here"])
    assert found == {"rouge1": pytest.approx(3 / 4), "rouge2": pytest.approx(1 / 3), "rougeL": pytest.approx(3 / 4)}
    best = text_metrics.rouge(["the cat", "x"], [["a dog", "the cat"], ["y"]])
    assert best == {"rouge1": 0.5, "rouge2": 0.5, "rougeL": 0.5}


def test_rouge_in_other_scripts():
    assert text_metrics.rouge(["हिन्दी भाषा"], ["हिन्दी भाषा"])["rouge1"] == 0.0  # the library knows Latin letters
    assert text_metrics.rouge(["हिन्दी भाषा"], ["हिन्दी में"], words="unicode")["rouge1"] == pytest.approx(0.5)
    assert text_metrics.rouge(["東京"], ["東大"], words="characters")["rouge1"] == pytest.approx(0.5)
    with pytest.raises(ValueError, match="no 'klingon' words"):
        text_metrics.rouge(["a"], ["a"], words="klingon")


def test_what_does_not_match_is_refused():
    for score in (text_metrics.squad, text_metrics.bleu, text_metrics.chrf, text_metrics.rouge):
        with pytest.raises(ValueError, match="0 predicted texts"):
            score([], [])
        with pytest.raises(ValueError, match="1 predicted texts for 2"):
            score(["a"], ["a", "b"])
        with pytest.raises(ValueError, match="text 1 has no reference"):
            score(["a", "b"], [["a"], []])
