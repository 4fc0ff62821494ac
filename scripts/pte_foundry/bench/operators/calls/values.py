"""Operators that make values: constants, fills, windows, random numbers, spectra."""

import torch

from pte_foundry.bench.operators.calls.inputs import booleans, integers, normal, uniform

X = normal(2, 3)
WAVE = normal(1, 32)
TOKENS = integers(0, 9, 2, 5)


def power(x, **options):
    window = torch.hann_window(16)
    return torch.stft(x, 16, 8, window=window, return_complex=True, **options).abs()


def parts(z):
    return z.real, z.imag


CALLS = [
    ("zeros_like", "bool of floats", lambda x: torch.zeros_like(x, dtype=torch.bool) | (x > 0), X),
    (
        "zeros_like",
        "float of bool",
        lambda m: torch.zeros_like(m, dtype=torch.float32).masked_fill(m, -5.0),
        booleans(2, 3),
    ),
    ("zeros_like", "int of floats", lambda x: torch.zeros_like(x, dtype=torch.int32) + 1, X),
    (
        "ones_like",
        "float of integers",
        lambda x: torch.ones_like(x, dtype=torch.float32) * 0.5,
        TOKENS,
    ),
    (
        "full_like",
        "float of integers",
        lambda x: torch.full_like(x, 0.5, dtype=torch.float32) + x,
        TOKENS,
    ),
    ("full_like", "integers", lambda x: torch.full_like(x, 3) + x, TOKENS),
    ("new_zeros", "", lambda x: x.new_zeros(2, 3) + x, X),
    ("new_full", "", lambda x: x.new_full((2, 3), 1.5) + x, X),
    ("new_full", "bool", lambda x: x.new_full((2, 3), True, dtype=torch.bool) & (x > 0), X),
    ("zeros", "", lambda x: torch.zeros(2, 3) + x, X),
    ("ones", "bool", lambda x: torch.ones(2, 3, dtype=torch.bool) & (x > 0), X),
    ("full", "integers", lambda x: torch.full((2, 5), 3) + x, TOKENS),
    ("fill", "scalar", lambda x: torch.ops.aten.fill(x, 2.5) + x, X),
    ("fill", "integers", lambda x: torch.ops.aten.fill(x, 2) + x, TOKENS),
    ("arange", "floats", lambda x: torch.arange(0, 3, 0.5) + x, normal(6)),
    ("arange", "descending", lambda x: torch.arange(6, 0, -1) + x, TOKENS[:, :1]),
    ("linspace", "", lambda x: torch.linspace(-1, 2, 6) + x, normal(6)),
    ("scalar_tensor", "", lambda x: torch.scalar_tensor(2.5) + x, X),
    ("eye", "rectangular", lambda x: torch.eye(2, 3) + x, X),
    ("hann_window", "", lambda x: torch.hann_window(32) * x, WAVE),
    ("hann_window", "symmetric", lambda x: torch.hann_window(32, periodic=False) * x, WAVE),
    ("stft", "magnitude", power, WAVE),
    ("stft", "no centre", lambda x: power(x, center=False), WAVE),
    ("stft", "normalized", lambda x: power(x, normalized=True), WAVE),
    ("fft_rfft", "magnitude", lambda x: torch.fft.rfft(x).abs(), WAVE),
    ("fft_rfft", "parts, padded", lambda x: parts(torch.fft.rfft(x, n=40)), WAVE),
    ("fft_rfft", "orthonormal", lambda x: parts(torch.fft.rfft(x, norm="ortho")), WAVE),
    ("fft_fft", "parts", lambda x: parts(torch.fft.fft(x)), WAVE),
    (
        "fft_fft",
        "of complex",
        lambda x, y: parts(torch.fft.fft(torch.complex(x, y))),
        WAVE,
        normal(1, 32),
    ),
    ("fft_ifft", "parts", lambda x, y: parts(torch.fft.ifft(torch.complex(x, y))), WAVE, WAVE * 2),
    (
        "fft_irfft",
        "",
        lambda x, y: torch.fft.irfft(torch.complex(x, y)),
        normal(1, 17),
        normal(1, 17),
    ),
    (
        "fft_irfft",
        "length",
        lambda x, y: torch.fft.irfft(torch.complex(x, y), n=20),
        normal(1, 17),
        normal(1, 17),
    ),
    ("fft_rfftn", "", lambda x: parts(torch.fft.rfftn(x)), normal(4, 6)),
    ("fft_fftn", "", lambda x: parts(torch.fft.fftn(x, dim=(0, 1))), normal(4, 6)),
    ("fft_ifftn", "", lambda x: parts(torch.fft.ifftn(torch.complex(x, x))), normal(4, 6)),
    ("fft_irfftn", "", lambda x: torch.fft.irfftn(torch.complex(x, x)), normal(4, 6)),
    (
        "complex",
        "times complex",
        lambda x, y: parts(torch.complex(x, y) * torch.complex(y, x)),
        normal(5),
        normal(5) * 2,
    ),
    (
        "view_as_real",
        "",
        lambda x, y: torch.view_as_real(torch.complex(x, y)),
        normal(5),
        normal(5) * 2,
    ),
    ("real", "", lambda x: torch.real(torch.complex(x, x * 2)), normal(5)),
    ("imag", "", lambda x: torch.imag(torch.complex(x, x * 2)), normal(5)),
    ("linalg_inv", "", torch.linalg.inv, torch.eye(3) * 2 + normal(3, 3) * 0.2),
    (
        "multinomial",
        "certain",
        lambda x: torch.multinomial(x, 1),
        torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]),
    ),
    ("rand", "range", lambda x: in_range(torch.rand(50, 50), x), uniform(0, 1, 1)),
    ("rand_like", "range", lambda x: in_range(torch.rand_like(x), x), uniform(0, 1, 50, 50)),
    ("randn", "range", lambda x: moments(torch.randn(50, 50), x), X),
    ("randn_like", "range", lambda x: moments(torch.randn_like(x), x), normal(50, 50)),
    ("randint", "range", lambda x: in_range(torch.randint(0, 2, (50, 50)), x), uniform(0, 1, 1)),
]


def in_range(random, x):
    """Returns what holds for random numbers between 0 and 1, whichever they are."""
    return (
        (random >= 0).all(),
        (random <= 1).all(),
        (random.float().mean() * 2).round() + x.sum() * 0,
    )


def moments(random, x):
    """Returns the first two moments of normal numbers, rounded to what is certain."""
    return random.mean().round() + x.sum() * 0, random.var().round()
