"""The table of methods: a parameterization, an objective, a start and a citation each. No torch here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hdt.errors import InputError


@dataclass(frozen=True)
class Method:
    """A named pair with its defaults; ``options`` override the objective's own, the others the parameterization's."""

    title: str
    parameterization: str
    objective: str
    start: str
    iterations: int
    learning_rate: float
    citation: str
    options: dict[str, Any] = field(default_factory=dict)
    parameterization_options: dict[str, Any] = field(default_factory=dict)


def _subset(title: str, start: str, citation: str) -> Method:
    return Method(title, "raw", "none", start, iterations=0, learning_rate=0.01, citation=citation)


FRED = """@inproceedings{shin2023fred,
  author    = {Shin, DongHyeok and Shin, Seungjae and Moon, Il-Chul},
  title     = {Frequency Domain-based Dataset Distillation},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2023},
  note      = {arXiv:2311.08819}
}"""

NSD = """@inproceedings{yang2024nsd,
  author    = {Yang, Shaolei and Cheng, Shen and Hong, Mingbo and Fan, Haoqiang and Wei, Xing and Liu, Shuaicheng},
  title     = {Neural Spectral Decomposition for Dataset Distillation},
  booktitle = {European Conference on Computer Vision},
  year      = {2024},
  note      = {arXiv:2408.16236}
}"""

CFM = """@inproceedings{bo2026cfm,
  author    = {Bo, Deyu and Liu, Songhua and Wang, Xinchao},
  title     = {Understanding Dataset Distillation via Spectral Filtering},
  booktitle = {International Conference on Learning Representations},
  year      = {2026},
  note      = {arXiv:2503.01212}
}"""

METHODS: dict[str, Method] = {
    "wiener": Method(
        title="Closed-form student: the exact full-data loss from lag moments",
        parameterization="raw",
        objective="wiener",
        start="phase",
        iterations=300,
        learning_rate=0.1,
        citation="""@software{hdt_wiener,
  title = {hdt: the Wiener objective for time series distillation},
  year  = {2026}
}""",
    ),
    "hdt": Method(
        title="Harmonic dataset distillation for time series forecasting",
        parameterization="harmonic",
        objective="harmonic",
        start="phase",
        iterations=400,
        learning_rate=0.02,
        citation="""@article{hong2026hdt,
  author  = {Hong, Seungha and Jang, Sanghwan and Kweon, Wonbin and Kim, Suyeon and Lee, Gyuseok and Yu, Hwanjo},
  title   = {Harmonic Dataset Distillation for Time Series Forecasting},
  journal = {arXiv preprint arXiv:2603.03760},
  year    = {2026},
  note    = {AAAI 2026}
}""",
    ),
    "condtsf": Method(
        title="Trajectory matching with a value term for forecasting",
        parameterization="raw",
        objective="condtsf",
        start="real",
        iterations=300,
        learning_rate=0.03,
        options={"label_share": 0.0},
        citation="""@inproceedings{ding2024condtsf,
  author    = {Ding, Jianrong and Liu, Zhanyu and Zheng, Guanjie and Jin, Haiming and Kong, Linghe},
  title     = {CondTSF: One-line Plugin of Dataset Condensation for Time Series Forecasting},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2024},
  note      = {arXiv:2406.02131}
}""",
    ),
    "mtt": Method(
        title="Matching training trajectories",
        parameterization="raw",
        objective="mtt",
        start="real",
        iterations=300,
        learning_rate=0.1,
        citation="""@inproceedings{cazenavette2022mtt,
  author    = {Cazenavette, George and Wang, Tongzhou and Torralba, Antonio and Efros, Alexei A. and Zhu, Jun-Yan},
  title     = {Dataset Distillation by Matching Training Trajectories},
  booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year      = {2022},
  note      = {arXiv:2203.11932}
}""",
    ),
    "dc": Method(
        title="Gradient matching along training",
        parameterization="raw",
        objective="dc",
        start="real",
        iterations=400,
        learning_rate=0.1,
        citation="""@inproceedings{zhao2021dc,
  author    = {Zhao, Bo and Mopuri, Konda Reddy and Bilen, Hakan},
  title     = {Dataset Condensation with Gradient Matching},
  booktitle = {International Conference on Learning Representations},
  year      = {2021},
  note      = {arXiv:2006.05929}
}""",
    ),
    "fred-wiener": Method(
        title="Masked cosine coefficients of the folded series, Wiener objective",
        parameterization="fred",
        objective="wiener",
        start="phase",
        iterations=200,
        learning_rate=0.1,
        options={"noise": 0.06},
        citation=FRED,
    ),
    "fred-mtt": Method(
        title="Masked cosine coefficients of the folded series, trajectory matching",
        parameterization="fred",
        objective="mtt",
        start="real",
        iterations=300,
        learning_rate=0.1,
        citation=FRED,
    ),
    "nsd-wiener": Method(
        title="Spectrum tensors and shared kernels, Wiener objective",
        parameterization="nsd",
        objective="wiener",
        start="phase",
        iterations=300,
        learning_rate=0.02,
        parameterization_options={"kernels": "svd"},
        citation=NSD,
    ),
    "nsd-mtt": Method(
        title="Spectrum tensors and shared kernels, trajectory matching",
        parameterization="nsd",
        objective="mtt",
        start="real",
        iterations=300,
        learning_rate=0.02,
        parameterization_options={"kernels": "svd"},
        citation=NSD,
    ),
    "cfm": Method(
        title="Curriculum frequency matching of feature correlations",
        parameterization="raw",
        objective="cfm",
        start="real",
        iterations=400,
        learning_rate=0.1,
        options={"match_weight": 1.0},
        citation=CFM,
    ),
    "hdt-cfm": Method(
        title="Curriculum frequency matching on Fourier coefficients",
        parameterization="harmonic",
        objective="cfm",
        start="phase",
        iterations=400,
        learning_rate=0.1,
        options={"match_weight": 1.0},
        citation=CFM,
    ),
    "kcenter": _subset(
        "The real segment with the smallest largest distance to all others",
        "kcenter",
        """@inproceedings{sener2018coreset,
  author    = {Sener, Ozan and Savarese, Silvio},
  title     = {Active Learning for Convolutional Neural Networks: A Core-Set Approach},
  booktitle = {International Conference on Learning Representations},
  year      = {2018},
  note      = {arXiv:1708.00489}
}""",
    ),
    "herding": _subset(
        "The real segment nearest to the mean of all",
        "herding",
        """@inproceedings{welling2009herding,
  author    = {Welling, Max},
  title     = {Herding Dynamical Weights to Learn},
  booktitle = {International Conference on Machine Learning},
  year      = {2009}
}""",
    ),
    "random": _subset("A random real segment", "real", ""),
}


def find(name: str) -> Method:
    """The method of that name, or a one-line error that lists them."""
    if not isinstance(name, str) or name not in METHODS:
        raise InputError(f"unknown method {name!r}; known: {', '.join(METHODS)}")
    return METHODS[name]
