"""Which data sets there are; where the published ones come from, and how to recognise them.

The checksums are those of the published files. The addresses are the publishers' own; the download
code is tested against a server on this machine, the addresses themselves are untested until
someone with a network has run `python -m flatness fetch` without a mirror.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """A published data set.

    Attributes:
        folder: name of its folder in a mirror and in the cache of raw files.
        files: file name to checksum, "algorithm:hexadecimal digits".
        address: what a file's name is appended to; or, with `archive`, where the archive is.
        licence: terms of use.
        archive: checksum of the tar archive that the files come in, if they do, under `folder`.
    """

    folder: str
    files: Mapping[str, str]
    address: str
    licence: str
    archive: str | None = None


#: Every published data set by name.
PUBLISHED: Mapping[str, Source] = {
    "abalone": Source(
        folder="abalone",
        address="https://archive.ics.uci.edu/ml/machine-learning-databases/abalone/",
        licence="CC BY 4.0; UCI Machine Learning Repository, doi 10.24432/C55C7W",
        files={
            "abalone.data": (
                "sha256:de37cdcdcaaa50c309d514f248f7c2302a5f1f88c168905eba23fe2fbc78449f"
            ),
        },
    ),
    "cora": Source(
        folder="cora",
        address="https://github.com/kimiyoung/planetoid/raw/master/data/",
        licence="MIT repository, public data; the Planetoid split (Yang et al. 2016)",
        files={
            "ind.cora.x": "sha256:23cfa55d91c6f624233f5eb7b6e3f141f1bd2b2ae39608a63cf5d084bb27baab",
            "ind.cora.tx": (
                "sha256:b9afbaa4a400df991f6f02ef677e1e44da55ffc04801fd02f9e673987829226a"
            ),
            "ind.cora.allx": (
                "sha256:9419ba2f26f5c35243db64aba110e0f35a04851609e0dc5433450676ca6b8543"
            ),
            "ind.cora.y": "sha256:94465c14eb53e04ca262198dcbb2521ee8af60fb3f3d546cd6ca24a511b0e7d1",
            "ind.cora.ty": (
                "sha256:41f5ac76596a1699cc33f53084a2419e92961c42bb75f36fc38e616d348532ad"
            ),
            "ind.cora.ally": (
                "sha256:2b998f5cc7fedc86e7f97ca2498f47a1ffc1462c29e2d578b23bf3f62b6e7d71"
            ),
            "ind.cora.graph": (
                "sha256:58f13302f39dde8852dad6fe6d15b89b077b6d7f837626bce671ef80344b383d"
            ),
            "ind.cora.test.index": (
                "sha256:297ce89af2b51a6a194181c7dbe1796c6a1cf9cd9349a88383b1b1e227867875"
            ),
        },
    ),
    "fashion_mnist": Source(
        folder="fashion-mnist",
        address="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        licence="MIT; Xiao, Rasul and Vollgraf 2017",
        files={
            "train-images-idx3-ubyte.gz": (
                "sha256:3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"
            ),
            "train-labels-idx1-ubyte.gz": (
                "sha256:a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"
            ),
            "t10k-images-idx3-ubyte.gz": (
                "sha256:346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"
            ),
            "t10k-labels-idx1-ubyte.gz": (
                "sha256:67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"
            ),
        },
    ),
    "cifar10": Source(
        folder="cifar-10-batches-py",
        address="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        licence="free for research; cite Krizhevsky 2009",
        archive="md5:c58f30108f718f92721af3b95e74349a",
        files={
            "batches.meta": (
                "sha256:f962466ef690d46b226450fb9aadc74ba4bc64a76aa526b5827fe4bc5c7125cb"
            ),
            "data_batch_1": (
                "sha256:54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd"
            ),
            "data_batch_2": (
                "sha256:766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8"
            ),
            "data_batch_3": (
                "sha256:0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9"
            ),
            "data_batch_4": (
                "sha256:3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b"
            ),
            "data_batch_5": (
                "sha256:d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154"
            ),
            "test_batch": (
                "sha256:f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831"
            ),
        },
    ),
}

#: Every demo data set by name, with the published one it stands in for. They are made by
#: `flatness.demo_data`.
DEMO: Mapping[str, str] = {
    "diabetes": "abalone",
    "digits": "fashion_mnist",
    "digits32": "cifar10",
    "sbm": "cora",
}
