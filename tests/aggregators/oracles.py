"""The rules in float64 NumPy, straight from the papers and as slow as they read. Shares no code with `aggregators`."""

import itertools

import numpy as np


def average(rows, f):
    return np.asarray(rows, np.float64).sum(axis=0) / len(rows)


def median(rows, f, kind="mid"):
    return np.array([median_of(column, kind) for column in np.asarray(rows, np.float64).T])


def geometric_median(rows, f):
    """A row if the others cannot pull it away (Kuhn), else the fixed point of the weighted mean (Weiszfeld)."""
    rows = np.asarray(rows, np.float64)

    def objective(z):
        return np.linalg.norm(rows - z, axis=1).sum()

    best_row = min(rows, key=objective)
    for row in rows:
        differences = rows - row
        lengths = np.linalg.norm(differences, axis=1)
        others = lengths > 0
        pull = (differences[others] / lengths[others, None]).sum(axis=0)
        if np.linalg.norm(pull) <= np.sum(~others) + 1e-12:
            return row
    lengths = np.linalg.norm(rows - best_row, axis=1)
    others = lengths > 0
    pull = ((rows - best_row)[others] / lengths[others, None]).sum(axis=0)
    z, step = best_row, pull / (1 / lengths[others]).sum()
    while objective(z + step) >= objective(best_row):  # away from the row first: the iteration cannot leave one
        step = step / 2
    z = z + step
    for _ in range(20_000):
        weights = 1 / np.linalg.norm(rows - z, axis=1)
        following = weights @ rows / weights.sum()
        if np.linalg.norm(following - z) <= 1e-11 * (1 + np.linalg.norm(z)):
            return following
        z = following
    return z


def weiszfeld(rows, f, nu, iterations, start="zero", weight=lambda length, nu: 1 / np.maximum(nu, length)):
    """Smoothed steps."""
    rows = np.asarray(rows, np.float64)
    z = rows.mean(axis=0) if start == "mean" else np.zeros(rows.shape[1])
    for _ in range(iterations):
        weights = weight(np.linalg.norm(rows - z, axis=1), nu)
        z = weights @ rows / weights.sum()
    return z


def medoid(rows, f, power=1):
    """Of sums equal but for rounding the first."""
    rows = np.asarray(rows, np.float64)
    sums = np.array([(np.linalg.norm(rows - row, axis=1) ** power).sum() for row in rows])
    return rows[np.flatnonzero(sums <= sums.min() * (1 + 1e-12))[0]]


def krum_scores(rows, neighbours, power=2.0):
    rows = np.asarray(rows, np.float64)
    squared = ((rows[:, None] - rows[None]) ** 2).sum(axis=2)
    others = [np.delete(squared[i], i) ** (power / 2) for i in range(len(rows))]
    return np.array([np.sort(distances)[:neighbours].sum() for distances in others])


def krum(rows, f, neighbours=None, power=2.0):
    count = len(rows) - f - 2 if neighbours is None else neighbours
    return np.asarray(rows, np.float64)[int(np.argmin(krum_scores(rows, max(count, 1), power)))]


def multi_krum(rows, f, m=None, neighbours=None, power=2.0):
    rows, n = np.asarray(rows, np.float64), len(rows)
    count = n - f - 2 if neighbours is None else neighbours
    best = np.argsort(krum_scores(rows, max(count, 1), power), kind="stable")
    return rows[best[: max(n - f - 2, 1) if m is None else m]].mean(axis=0)


def smallest_diameter_subset(rows, f, order=itertools.combinations):
    rows, n = np.asarray(rows, np.float64), len(rows)
    squared = ((rows[:, None] - rows[None]) ** 2).sum(axis=2)
    best, best_diameter = None, np.inf
    for subset in order(range(n), n - f):  # lexicographic order: the first of equals stays
        diameter = squared[np.ix_(subset, subset)].max()
        if best is None or diameter < best_diameter:
            best, best_diameter = subset, diameter
    return best


def brute(rows, f):
    return np.asarray(rows, np.float64)[list(smallest_diameter_subset(rows, f))].mean(axis=0)


def median_of(values, kind="lower"):
    values = sorted(values)
    low, high = values[(len(values) - 1) // 2], values[len(values) // 2]
    return {"lower": low, "upper": high, "mid": (low + high) / 2}[kind]


def bulyan_selection(rows, f, base=krum, theta=None):
    """Recursion, one removal at a time: the pool loses the row that is closest to what the base makes of the pool."""
    rows = np.asarray(rows, np.float64)
    pool, selected = list(range(len(rows))), []
    for _ in range(len(rows) - 2 * f if theta is None else theta):
        output = base(rows[pool], f)
        distances = [np.sum((rows[i] - output) ** 2) for i in pool]
        selected.append(pool.pop(int(np.argmin(distances))))
    return selected


def around_median(values, beta, kind="lower"):
    centre = median_of(values, kind)
    return np.mean(sorted(values, key=lambda value: (abs(value - centre), value))[:beta])


def bulyan(rows, f, base=krum, kind="lower", theta=None):
    rows = np.asarray(rows, np.float64)
    selected = rows[bulyan_selection(rows, f, base, theta)]
    return np.array([around_median(column, len(selected) - 2 * f, kind) for column in selected.T])


def trimmed_mean(rows, f):
    ascending = np.sort(np.asarray(rows, np.float64), axis=0)
    return ascending[f : len(rows) - f].mean(axis=0)


def mean_around_median(rows, f, count=None, kind="mid"):
    columns = np.asarray(rows, np.float64).T
    return np.array([around_median(column, len(rows) - f if count is None else count, kind) for column in columns])


def phocas(rows, f):
    rows = np.asarray(rows, np.float64)
    centres = trimmed_mean(rows, f)
    kept = [
        sorted(column, key=lambda value: (abs(value - centre), value))[: len(rows) - f]
        for column, centre in zip(rows.T, centres, strict=True)
    ]
    return np.mean(kept, axis=1)


def median_of_means(rows, f, groups=None, of=geometric_median):
    means = [group.mean(axis=0) for group in np.array_split(np.asarray(rows, np.float64), groups or 2 * f + 1)]
    return of(np.array(means), f)


def closest(rows, distances, count):
    return np.asarray(rows, np.float64)[np.argsort(distances, kind="stable")[:count]].mean(axis=0)


def cge(rows, f, count=None):
    return closest(rows, np.sum(np.asarray(rows, np.float64) ** 2, axis=1), len(rows) - f if count is None else count)


def aksel(rows, f, count=None, centre=median):
    rows = np.asarray(rows, np.float64)
    squared = np.sum((rows - centre(rows, f)) ** 2, axis=1)
    return closest(rows, squared, (len(rows) + 1) // 2 if count is None else count)


def monna(rows, f, pivot=-1, count=None):
    rows = np.asarray(rows, np.float64)
    return closest(rows, np.sum((rows - rows[pivot]) ** 2, axis=1), len(rows) - f if count is None else count)


def norm_clipping(rows, f, tau=None):
    return centered_clipping(rows, f, tau)


def centered_clipping(rows, f, tau=None, iterations=1, last=0.0, start=None):
    rows, v = np.asarray(rows, np.float64), last + np.zeros(np.shape(rows)[1])
    v = v if start is None else {"median": np.median, "mean": np.mean}[start](rows, axis=0)
    for _ in range(iterations):
        lengths = [np.linalg.norm(row - v) for row in rows]
        radius = np.median(lengths) if tau is None else tau
        clipped = [(x - v) * min(1, radius / length) for x, length in zip(rows, lengths, strict=True) if length > 0]
        v = v + np.sum(clipped, axis=0) / len(rows)
    return v


def clipped_clustering(rows, f, past=(), linkage=np.mean, size=max, tie=1e-7):
    """`past`: norms of earlier updates. Clusters are lists of rows, joined two by two until two are left."""
    rows = np.asarray(rows, np.float64)
    norms = np.linalg.norm(rows, axis=1)
    units = [row / norm if norm > 0 else row for row, norm in zip(rows, norms, strict=True)]

    def apart(i, j):
        if norms[i] == 0 or norms[j] == 0:
            return float(norms[i] != norms[j])
        return np.sum((units[i] - units[j]) ** 2) / 2

    clusters = [[i] for i in range(len(rows))]
    while len(clusters) > 2:
        pairs = list(itertools.combinations(range(len(clusters)), 2))
        distances = [linkage([apart(i, j) for i in clusters[a] for j in clusters[b]]) for a, b in pairs]
        a, b = pairs[int(np.argmax(np.array(distances) <= min(distances) * (1 + tie)))]
        clusters[a] += clusters.pop(b)
    tau = np.median([*past, *norms])
    chosen = size(clusters, key=len)
    return np.mean([rows[i] * (min(1, tau / norms[i]) if norms[i] else 1) for i in chosen], axis=0)


def sign_majority(rows, f):
    return np.sign(np.sign(np.asarray(rows, np.float64)).sum(axis=0))


def covariance(rows):
    centred = rows - rows.mean(axis=0)
    return centred.T @ centred / len(rows)


def smea(rows, f, size_of=lambda rows: np.linalg.eigvalsh(covariance(rows))[-1]):
    rows = np.asarray(rows, np.float64)
    subsets = itertools.combinations(range(len(rows)), len(rows) - f)
    return rows[list(min(subsets, key=lambda subset: size_of(rows[list(subset)])))].mean(axis=0)


def mean_shift(points):
    """The largest cluster, as a list of indices."""
    n = len(points)
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)
    reach = np.mean(np.sort(apart, axis=1)[:, max(n // 2, 1) - 1]) + 1e-7
    peaks, heights = [], []
    for peak in points:
        before = None
        while True:
            near = np.linalg.norm(points - peak, axis=1) <= reach
            if before is not None and (near == before).all():
                break
            before, peak = near, points[near].mean(axis=0)
        peaks.append(peak)
        heights.append(near.sum())
    kept = []
    for i in sorted(range(n), key=lambda i: (-heights[i], i)):
        if all(np.linalg.norm(peaks[i] - other) > reach for other in kept):
            kept.append(peaks[i])
    clusters = [[] for _ in kept]
    for j, point in enumerate(points):
        distances = [np.linalg.norm(point - peak) for peak in kept]
        if min(distances) <= reach:
            clusters[int(np.argmax(np.array(distances) <= min(distances) + 1e-7))].append(j)
    return max(clusters, key=len)


def sign_shares(rows):
    return np.array([[np.mean(row > 0), np.mean(row == 0), np.mean(row < 0)] for row in rows])


def similar(rows, kind):
    """The median cosine to the other rows, or the median distance to them over the median of these."""
    norms = np.linalg.norm(rows, axis=1)
    found = []
    for i, row in enumerate(rows):
        others = [j for j in range(len(rows)) if j != i]
        if kind == "cosine":
            found.append(np.median([row @ rows[j] / ((norms[i] * norms[j]) or 1) for j in others]))
        else:
            found.append(np.median([np.linalg.norm(row - rows[j]) for j in others]))
    if kind == "cosine":
        return np.array(found)
    return np.array([min(x / np.median(found), 2) if np.median(found) else 2.0 * (x > 0) for x in found])


def signguard(rows, f, similarity=None, low=0.1, high=3.0, features=sign_shares, cluster=mean_shift, clip=True):
    rows = np.asarray(rows, np.float64)
    norms = np.linalg.norm(rows, axis=1)
    middle = np.median(norms)
    usual = [i for i in range(len(rows)) if (1 - 1e-7) * low * middle <= norms[i] <= (1 + 1e-7) * high * middle]
    points = features(rows)
    if similarity:
        points = np.column_stack([points, similar(rows, similarity)])
    guarded = cluster(points)
    chosen = [i for i in usual if i in guarded] or usual
    return np.mean([rows[i] * (min(1, middle / norms[i]) if clip and norms[i] else 1) for i in chosen], axis=0)


def foolsgold(rows, f, past=0.0, kappa=1.0, divide=False, pardon=True, rescale=True, logit=True):
    """`past`: the sums of the rows of each worker in earlier updates."""
    rows = np.asarray(rows, np.float64)
    n, history = len(rows), rows + past
    lengths = np.linalg.norm(history, axis=1)
    cosines = np.zeros((n, n))  # 0 to itself, as in the authors' code
    for i, j in itertools.combinations(range(n), 2):
        if lengths[i] and lengths[j]:
            cosine = 1 - ((history[i] / lengths[i] - history[j] / lengths[j]) ** 2).sum() / 2
            cosines[i, j] = cosines[j, i] = cosine
    v = cosines.max(axis=1)
    for i, j in itertools.permutations(range(n), 2):
        if pardon and v[j] > v[i]:
            cosines[i, j] *= v[i] / v[j]
    alpha = np.array([1 - cosines[i].max() if lengths[i] else 0.0 for i in range(n)])
    if not alpha.any():
        alpha = 1.0 * (lengths > 0)
    if rescale and alpha.any():
        alpha /= alpha.max()
    weights = np.array([0.0 if a == 0 else 1.0 if a == 1 else kappa * (np.log(a / (1 - a)) + 0.5) for a in alpha])
    weights = weights.clip(0, 1) if logit else alpha
    return weights @ rows / ((weights.sum() or 1) if divide else 1)


OWN = 1.0  # every coordinate of the server's own row, and of the point where its loss is smallest, with another sign


def fltrust(rows, f, trust=lambda cosine: max(cosine, 0.0), resized=True, counted=False):
    rows = np.asarray(rows, np.float64)
    own = np.full(rows.shape[1], OWN)
    total, result = 0.0, np.zeros_like(own)
    for row in rows:
        cosine = row @ own / (np.linalg.norm(row) * np.linalg.norm(own)) if row.any() else 0.0
        if row.any():
            total += 1 if counted else trust(cosine)
            result += trust(cosine) * (np.linalg.norm(own) / np.linalg.norm(row) if resized else 1) * row
    return result / total if total else result


def zeno(rows, f, learning_rate=0.1, rho=5e-4, power=2, count=None):
    rows = np.asarray(rows, np.float64)

    def loss(params):
        return 0.5 * ((params + OWN) ** 2).sum()

    lengths = np.linalg.norm(rows, axis=1)
    scores = [
        loss(0 * x) - loss(-learning_rate * x) - rho * length**power for x, length in zip(rows, lengths, strict=True)
    ]
    best = sorted(range(len(rows)), key=lambda i: (-scores[i], i))[: len(rows) - f if count is None else count]
    return rows[best].mean(axis=0)


def dnc(rows, f, which=0, centred=True, size=np.square, dropped=None):
    """One iteration over all coordinates, by a singular value decomposition."""
    rows = np.asarray(rows, np.float64)
    seen = rows - rows.mean(axis=0) if centred else rows
    _, _, directions = np.linalg.svd(seen, full_matrices=False)
    scores = size(seen @ directions[which])
    return rows[np.argsort(scores, kind="stable")[: len(rows) - (f if dropped is None else dropped)]].mean(axis=0)


def caf(
    rows,
    f,
    until=lambda n, f: n - 2 * f,
    keeps=lambda now, smallest: now < smallest,
    hard=False,
    divided=True,
    tie=4e-15,
):
    """With the whole covariance matrix, `[d, d]`."""
    rows, n = np.asarray(rows, np.float64), len(rows)
    weights, best, smallest = np.ones(n), None, np.inf
    while weights.sum() > until(n, f):
        mean = weights @ rows / weights.sum()
        covariance = (weights[:, None] * (rows - mean)).T @ (rows - mean)
        values, vectors = np.linalg.eigh(covariance / (weights.sum() if divided else n))
        if keeps(values[-1], smallest):
            best, smallest = mean, values[-1]
        distances = ((rows - mean) @ vectors[:, -1]) ** 2
        largest = distances[weights > 0].max()
        if largest <= 1e-28 * (rows[weights > 0] ** 2).max():  # the rows that are left are equal
            break
        shrunk = distances < largest * (1 - 1e-9) if hard else 1 - distances / largest
        weights = np.where((weights > 0) & (distances < (1 - tie) * largest), weights * shrunk, 0).clip(0)
    return best
