// The same as `estimate` in reports/verify.py; a test compares their numbers.
const Z = 1.959963984540054;
const ENOUGH = 5;

function estimate(judgements, strata) {
  const kinds = ["agree", "disagree"];
  const total = strata.agree + strata.disagree;
  const judged = {}, decided = {};
  for (const h of kinds) {
    judged[h] = judgements.filter((j) => j.stratum === h);
    decided[h] = judged[h].filter((j) => j.frozen !== null);
  }
  const counts = {
    judged: judged.agree.length + judged.disagree.length,
    told: decided.agree.length + decided.disagree.length,
  };
  const present = kinds.filter((h) => strata[h] > 0);
  if (present.some((h) => judged[h].length < Math.min(ENOUGH, strata[h]) || !decided[h].length)) {
    return { ready: false, ...counts };
  }
  const result = { ready: true, ...counts };
  for (const model of ["frozen", "adapted"]) {
    let value = 0, below = 0, above = 0;
    for (const h of present) {
      const n = decided[h].length, k = decided[h].filter((j) => j[model]).length;
      const weight = strata[h] / total, share = k / n, [low, high] = agrestiCoull(k, n);
      value += weight * share;
      below += (weight * (share - low)) ** 2;
      above += (weight * (high - share)) ** 2;
    }
    const low = Math.max(0, value - Math.sqrt(below)), high = Math.min(1, value + Math.sqrt(above));
    result[model] = { value: 100 * value, interval: [100 * low, 100 * high] };
  }
  const different = strata.disagree > 0 ? decided.disagree : [];
  const gained = different.filter((j) => j.adapted && !j.frozen).length;
  const lost = different.filter((j) => j.frozen && !j.adapted).length;
  result.difference = difference(gained, lost, different.length, strata.disagree / total);
  return result;
}

function agrestiCoull(k, n) {
  const wide = n + Z ** 2, centre = (k + Z ** 2 / 2) / wide;
  const half = Z * Math.sqrt((centre * (1 - centre)) / wide);
  return [Math.max(0, centre - half), Math.min(1, centre + half)];
}

function difference(gained, lost, n, weight) {
  if (n === 0) return { value: 0, interval: [0, 0] };
  const up = (gained + 1) / (n + 2), down = (lost + 1) / (n + 2), centre = up - down;
  const half = Z * Math.sqrt((up + down - centre ** 2) / (n + 2));
  const low = Math.max(-1, centre - half), high = Math.min(1, centre + half);
  return { value: (100 * weight * (gained - lost)) / n, interval: [100 * weight * low, 100 * weight * high] };
}
