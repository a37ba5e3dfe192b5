"""Files of word vectors written by gensim 4.4, for tests/test_vector_formats.py; and a check of the reverse.

python make_gensim_vectors.py              writes the files beside this one
python make_gensim_vectors.py FOLDER       reads what the test wrote there (MINIGRAD_GENSIM=PYTHON names this Python)
"""

import json
import sys
from pathlib import Path

import numpy as np
from gensim.models import FastText, KeyedVectors
from gensim.models.fasttext import load_facebook_model, load_facebook_vectors, save_facebook_model

HERE = Path(__file__).parent
WORDS = ["the", "1999", "über", "中文", "👩‍👧", "1,5", "3", "naïve", "a", "\u00a0x"]
UNSEEN = ["unseen", "日本", "a", "übers"]


def bits(x):
    return np.asarray(x, np.float32).view(np.uint32).tolist()


def vectors():
    rng = np.random.default_rng(5)
    x = (rng.normal(size=(len(WORDS), 7)) * 10.0 ** rng.integers(-9, 5, (len(WORDS), 7))).astype(np.float32)
    x[0, 0], x[1, 1], x[2, 2], x[3, 3] = -0.0, 1e-40, 3e15, -7e17
    return x


def write():
    plain = KeyedVectors(7)
    plain.add_vectors(WORDS, vectors())
    plain.save_word2vec_format(str(HERE / "gensim.txt"))
    plain.save_word2vec_format(str(HERE / "gensim.bin"), binary=True)
    plain.save_word2vec_format(str(HERE / "gensim.glove.txt"), write_header=False)
    plain.save_word2vec_format(str(HERE / "gensim.txt.gz"))
    texts = [["the", "king", "über", "中文", "😀"]] * 5 + [["the", "queen"]] * 9
    options = {"vector_size": 5, "min_count": 1, "bucket": 40, "min_n": 2, "max_n": 4}
    model = FastText(texts, seed=1, workers=1, epochs=2, **options)
    save_facebook_model(model, str(HERE / "gensim.fasttext.bin"))
    wv = model.wv
    about = {
        "words": WORDS, "bits": bits(vectors()), "fasttext words": wv.index_to_key, "fasttext bits": bits(wv.vectors),
        "counts": [int(wv.get_vecattr(word, "count")) for word in wv.index_to_key],
        "unseen": UNSEEN, "unseen bits": [bits(wv[word]) for word in UNSEEN],
    }  # fmt: skip
    (HERE / "gensim.json").write_text(json.dumps(about) + "\n")


def check(folder):
    about = json.loads((HERE / "gensim.json").read_text())
    files = {"v.txt": {}, "v.txt.gz": {}, "v.bin": {"binary": True}, "v.glove": {"no_header": True}}
    plain = [KeyedVectors.load_word2vec_format(str(folder / name), **how) for name, how in files.items()]
    for found in (*plain, load_facebook_vectors(str(folder / "plain.bin"))):
        assert (found.index_to_key, bits(found.vectors)) == (about["words"], about["bits"])
    model = load_facebook_model(str(folder / "fasttext.bin"))
    for found in (model.wv, load_facebook_vectors(str(folder / "fasttext.bin"))):
        assert (found.index_to_key, bits(found.vectors)) == (about["fasttext words"], about["fasttext bits"])
        assert [bits(found[word]) for word in about["unseen"]] == about["unseen bits"]
    model.train([["the", "king"]] * 9, total_examples=9, epochs=1)


if __name__ == "__main__":
    check(Path(sys.argv[1])) if sys.argv[1:] else write()
