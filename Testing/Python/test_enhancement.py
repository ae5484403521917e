"""Fuzzy enhancement against its equations (Patrascu; DIN paper, eq. 11 and 12), and the methods beside it."""

from __future__ import annotations

from math import comb, log, sqrt

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dinsegment.enhancement.fuzzy import FLOOR, LIMIT, SIGMA_U, fuzzy, fuzzy_enhance, memberships
from dinsegment.enhancement.grey import from_unit_interval, to_unit_interval
from dinsegment.enhancement.methods import METHODS, Enhancement
from dinsegment.errors import InputError

NO_FLOOR = 1e-9
quick = settings(max_examples=40, deadline=None)
degrees = st.integers(0, 3)
gammas = st.sampled_from((0.5, 1.0, 2.0, 3.5))
each_method = pytest.mark.parametrize("method", METHODS)


@st.composite
def slices(draw, smallest=3, largest=12):
    """Noise on a ramp (rows, columns), float64 in (-1, 1): windows differ in mean and in spread."""
    rows, columns = draw(st.integers(smallest, largest)), draw(st.integers(smallest, largest))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    ramp = np.linspace(-1, 1, rows)[:, None] * random.normal() + np.linspace(-1, 1, columns) * random.normal()
    return np.tanh(0.6 * ramp + random.uniform(0.2, 0.8) * random.normal(size=(rows, columns)))


def weights_by_hand(rows, columns, m, n, gamma):
    """w_ij(x, y), (m + 1, n + 1, rows, columns), pixel by pixel and window by window."""
    w = np.empty((m + 1, n + 1, rows, columns))
    for i, j, y, x in np.ndindex(w.shape):
        t = x / (columns - 1) if columns > 1 else 0.5
        u = y / (rows - 1) if rows > 1 else 0.5
        p = comb(m, i) * t**i * (1 - t) ** (m - i)
        q = comb(n, j) * u**j * (1 - u) ** (n - j)
        w[i, j, y, x] = (p * q) ** gamma
    return w / w.sum((0, 1))


def affine_by_hand(v, m, n, gamma=1.0, floor=FLOOR):
    """A and B (rows, columns) of the enhancement tanh(A phi(v) - B), window by window, by definition."""
    phi = 0.5 * np.log((1 + v) / (1 - v))
    w = weights_by_hand(*v.shape, m, n, gamma)
    a, b = np.zeros(v.shape), np.zeros(v.shape)
    for i in range(m + 1):
        for j in range(n + 1):
            card = w[i, j].sum()
            if card == 0:  # with two pixels along an axis the inner windows touch none
                continue
            mean = (w[i, j] * phi).sum() / card
            variance = (w[i, j] * (phi - mean) ** 2).sum() / card
            gain = sqrt(1 / 3) / max(sqrt(variance), floor)
            a += w[i, j] * gain
            b += w[i, j] * gain * mean
    return a, b


def enhanced_by_hand(v, *options, **named):
    a, b = affine_by_hand(v, *options, **named)
    return np.tanh(a * np.arctanh(v) - b)


@quick
@given(size=st.integers(1, 40), degree=st.integers(0, 8), gamma=gammas)
def test_memberships_sum_to_one_everywhere(size, degree, gamma):
    p = memberships(size, degree, gamma)
    assert p.shape == (size, degree + 1) and p.min() >= 0
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-6)


@quick
@given(st.integers(1, 9), st.integers(1, 9), degrees, degrees, gammas)
def test_window_weights_are_products_that_sum_to_one_everywhere(rows, columns, m, n, gamma):
    w = np.einsum("xi,yj->ijyx", memberships(columns, m, gamma), memberships(rows, n, gamma))
    np.testing.assert_allclose(w.sum((0, 1)), 1, atol=1e-6)
    np.testing.assert_allclose(w, weights_by_hand(rows, columns, m, n, gamma), atol=1e-6)


def test_memberships_are_bernsteins_and_symmetric():
    np.testing.assert_allclose(memberships(3, 2), [[1, 0, 0], [0.25, 0.5, 0.25], [0, 0, 1]], atol=1e-7)
    p = memberships(11, 3, 1.7)
    np.testing.assert_allclose(p, p[::-1, ::-1], atol=1e-6)


@quick
@given(v=slices(1), m=degrees, n=degrees, gamma=gammas)
def test_closed_form_is_the_sum_over_the_windows(v, m, n, gamma):
    expected = enhanced_by_hand(v, m, n, gamma)
    np.testing.assert_allclose(fuzzy_enhance(v, m, n, gamma), expected, atol=2e-5)


def test_defaults_are_three_by_three_windows():
    v = np.random.default_rng(2).uniform(-0.9, 0.9, (7, 9))
    np.testing.assert_array_equal(fuzzy_enhance(v), fuzzy_enhance(v, 2, 2, 1.0, FLOOR))
    np.testing.assert_array_equal(Enhancement()(v), fuzzy(v))


@quick
@given(slices(2))
def test_one_window_is_the_global_transform(v):
    phi = np.arctanh(fuzzy_enhance(v, 0, 0, floor=NO_FLOOR))
    assert phi.mean() == pytest.approx(0, abs=1e-8)
    assert phi.var() == pytest.approx(1 / 3, rel=1e-8)
    np.testing.assert_allclose(SIGMA_U**2, 1 / 3)


@quick
@given(v=slices(), m=degrees, n=degrees, gamma=gammas)
def test_every_pixel_maps_by_a_rising_line_in_the_phi_domain(v, m, n, gamma):
    a, b = affine_by_hand(v, m, n, gamma)
    assert a.min() > 0  # so tanh(A phi(f) - B) rises with f at each pixel
    phi = np.arctanh(np.clip(fuzzy_enhance(v, m, n, gamma).astype(np.float64), -1 + 1e-12, 1 - 1e-12))
    expected = a * np.arctanh(v) - b
    clear = np.abs(expected) < 5
    np.testing.assert_allclose(phi[clear], expected[clear], atol=1e-2, rtol=1e-3)


@quick
@given(v=slices(), degree=st.integers(1, 3))
def test_windows_along_one_axis_only_keep_the_order_along_the_other(v, degree):
    """Pixels of a row share A and B if m = 0, so in it the enhanced values rise with the original ones."""
    rows, columns = fuzzy_enhance(v, 0, degree), fuzzy_enhance(v, degree, 0)
    np.testing.assert_array_equal(np.argsort(rows, axis=1), np.argsort(v, axis=1))
    np.testing.assert_array_equal(np.argsort(columns, axis=0), np.argsort(v, axis=0))


@quick
@given(
    v=slices(),
    m=degrees,
    n=degrees,
    gamma=gammas,
    contrast=st.floats(0.2, 2),
    brightness=st.floats(-1.5, 1.5),
)
def test_brightness_and_contrast_in_the_phi_domain_leave_no_trace(v, m, n, gamma, contrast, brightness):
    phi = np.arctanh(v)
    changed = np.tanh(contrast * phi + brightness)
    expected = fuzzy_enhance(v, m, n, gamma, NO_FLOOR)
    np.testing.assert_allclose(fuzzy_enhance(changed, m, n, gamma, NO_FLOOR), expected, atol=1e-5)
    negative = fuzzy_enhance(np.tanh(-contrast * phi), m, n, gamma, NO_FLOOR)
    np.testing.assert_allclose(negative, -expected, atol=1e-5)


@quick
@given(v=slices(), m=degrees, n=degrees, gamma=gammas)
def test_flips_and_transposes_go_through(v, m, n, gamma):
    expected = fuzzy_enhance(v, m, n, gamma)
    for flip in (np.flipud, np.fliplr):
        np.testing.assert_allclose(flip(fuzzy_enhance(flip(v), m, n, gamma)), expected, atol=1e-5)
    np.testing.assert_allclose(fuzzy_enhance(v.T, n, m, gamma).T, expected, atol=1e-5)


@quick
@given(v=slices(), m=degrees, n=degrees, gamma=gammas)
def test_torch_and_single_precision_say_the_same(v, m, n, gamma):
    expected = fuzzy_enhance(v, m, n, gamma)
    double = fuzzy_enhance(torch.from_numpy(v), m, n, gamma)
    single = fuzzy_enhance(v.astype(np.float32), m, n, gamma)
    both = fuzzy_enhance(torch.from_numpy(v).float(), m, n, gamma)
    assert expected.dtype == np.float64 and double.dtype == torch.float64
    assert single.dtype == np.float32 and both.dtype == torch.float32
    np.testing.assert_allclose(double, expected, atol=1e-12)
    np.testing.assert_allclose(single, expected, atol=1e-4)
    np.testing.assert_allclose(both, expected, atol=1e-4)


def test_faint_structure_in_bright_and_in_dark_slices_keeps_single_precision():
    random = np.random.default_rng(11)
    faint = 0.003 * random.normal(size=(2, 32, 32)).clip(-3, 3)
    v = (np.array([0.97, -0.97])[:, None, None] + faint).astype(np.float32)
    np.testing.assert_allclose(fuzzy_enhance(v), fuzzy_enhance(v.astype(np.float64)), atol=2e-5)


@pytest.mark.parametrize("xp", ["numpy", "torch"])
def test_a_batch_is_its_slices_each_by_itself(xp):
    v = np.random.default_rng(3).uniform(-0.95, 0.95, (2, 3, 11, 8)) * np.array([0.2, 1.0, 0.6])[:, None, None]
    one = fuzzy_enhance if xp == "numpy" else lambda x: fuzzy_enhance(torch.from_numpy(x)).numpy()
    together = one(v)
    assert together.shape == v.shape
    for b, k in np.ndindex(2, 3):
        np.testing.assert_allclose(together[b, k], one(v[b, k]), atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 9), (9, 1), (1, 1), (2, 9), (9, 2), (2, 2), (7, 5), (128, 3)])
def test_any_shape_comes_out_finite_and_as_the_equations_say(shape):
    v = np.random.default_rng(4).uniform(-0.9, 0.9, shape)
    enhanced = fuzzy_enhance(v)
    assert enhanced.shape == shape and np.isfinite(enhanced).all()
    np.testing.assert_allclose(enhanced, enhanced_by_hand(v, 2, 2), atol=2e-5)


@pytest.mark.parametrize("value", [-1.0, -0.3, 0.0, 1.0])
def test_a_constant_slice_comes_out_grey(value):
    for v in (np.full((9, 7), value), np.full((2, 9, 7), value, np.float32)):
        enhanced = fuzzy(v)
        assert np.isfinite(enhanced).all() and np.abs(enhanced).max() < 1e-4


def test_noise_in_a_flat_window_is_not_blown_up():
    random = np.random.default_rng(5)
    v = np.full((64, 64), -0.9)
    v[:, 40:] = random.uniform(-0.9, 0.9, (64, 24))  # structure on one side, almost air on the other
    v[:, :20] += 1e-4 * random.normal(size=(64, 20))
    for gamma in (1.0, 6.0):
        enhanced = np.arctanh(fuzzy_enhance(v, gamma=gamma))
        noise = np.arctanh(v[:, 0]).std()
        assert enhanced[:, 0].std() < 1.05 * SIGMA_U / FLOOR * noise


def test_the_whole_closed_interval_is_allowed():
    v = np.array([[-1.0, 1.0, 0.5], [0.0, 1.0, -1.0], [-1.0, -0.5, 0.25]], np.float32)
    enhanced = fuzzy(v)
    assert np.isfinite(enhanced).all() and np.abs(enhanced).max() <= 1
    np.testing.assert_allclose(enhanced, fuzzy_enhance(v * LIMIT), atol=1e-6)
    assert 0.5 * log((1 + LIMIT) / (1 - LIMIT)) < 2.5


def test_contrast_in_a_dark_corner_grows():
    x = np.linspace(-1, 1, 64)
    v = -0.45 + 0.45 * x[:, None] + 0.05 * np.sign(np.sin(20 * x))
    enhanced = fuzzy(v)
    assert enhanced[:16].std(axis=1).mean() > 2 * v[:16].std(axis=1).mean()


@each_method
@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_every_method_has_one_interface(method, kind):
    v = np.random.default_rng(6).uniform(-1, 1, (3, 20, 17)).astype(np.float32)
    v[1] = 0.4  # a constant slice among others
    original = v.copy() if kind == "numpy" else torch.from_numpy(v.copy())
    enhanced = Enhancement(method)(original)
    assert type(enhanced) is type(original) and enhanced.dtype == original.dtype
    assert enhanced.shape == v.shape
    np.testing.assert_array_equal(original, v)  # the input is as it was
    np.testing.assert_array_equal(Enhancement(method)(original), enhanced)  # and twice gives the same
    enhanced = np.asarray(enhanced)
    assert np.isfinite(enhanced).all() and np.abs(enhanced).max() <= 1
    for k in range(3):
        np.testing.assert_allclose(Enhancement(method)(v[k]), enhanced[k], atol=1e-5)


@each_method
@pytest.mark.parametrize("shape", [(1, 9), (9, 1), (3, 5), (1, 1)])
def test_every_method_takes_thin_slices(method, shape):
    for v in (np.random.default_rng(7).uniform(-1, 1, shape), np.full(shape, -1.0)):
        enhanced = Enhancement(method)(v)
        assert enhanced.shape == shape and np.isfinite(enhanced).all() and np.abs(enhanced).max() <= 1


def test_histogram_equalisation_gives_every_grey_value_the_same_share():
    v = np.tanh(np.random.default_rng(8).normal(0.5, 0.4, (64, 64)))
    enhanced = Enhancement("histogram-equalization")(v)
    rank = np.argsort(np.argsort(v, axis=None)).reshape(v.shape) / v.size
    np.testing.assert_allclose(enhanced, 2 * rank - 1, atol=0.03)


def test_clahe_keeps_the_range_and_lifts_local_contrast():
    x = np.linspace(0, 1, 64)
    v = -0.8 + 0.9 * x[:, None] + 0.04 * np.sign(np.sin(40 * x))
    enhanced = Enhancement("clahe", {"clip_limit": 0.03})(v)
    assert enhanced.min() >= v.min() - 1e-6 and enhanced.max() <= v.max() + 1e-6
    assert enhanced.std(axis=1).mean() > 1.3 * v.std(axis=1).mean()


def test_none_gives_the_slices_themselves():
    v = np.random.default_rng(9).uniform(-1, 1, (4, 5))
    np.testing.assert_array_equal(Enhancement("none")(v), v)


def test_parameters_reach_the_method():
    v = np.random.default_rng(10).uniform(-1, 1, (12, 10))
    enhanced = Enhancement("fuzzy", {"m": 1, "n": 3, "gamma": 2.0})(v)
    np.testing.assert_array_equal(enhanced, fuzzy_enhance(v * LIMIT, m=1, n=3, gamma=2.0))
    assert not np.allclose(enhanced, Enhancement()(v), atol=1e-2)


def test_an_unknown_method_is_answered_with_the_known_ones():
    with pytest.raises(InputError, match=r"no enhancement 'fuzy'.*fuzzy.*clahe"):
        Enhancement("fuzy")


@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_grey_values_to_the_unit_interval_and_back(kind):
    x = kind([-300.0, -100.0, 50.0, 200.0, 900.0])
    v = to_unit_interval(x, -100.0, 200.0)
    np.testing.assert_allclose(v, [-1, -1, 0, 1, 1])
    np.testing.assert_allclose(from_unit_interval(v, -100.0, 200.0), [-100, -100, 50, 200, 200])
