'use strict';

function distance(a, b) {
  return a.reduce((sum, value, i) => sum + (value - b[i]) ** 2, 0);
}

/** The species that most of the k nearest samples have; the nearer one where two are level. */
function classify(point, samples, k) {
  const nearest = samples
    .map((sample, index) => ({ species: sample.species, index, distance: distance(point, sample.point) }))
    .sort((a, b) => a.distance - b.distance || a.index - b.index)
    .slice(0, k);
  const votes = new Map();
  nearest.forEach(({ species }) => votes.set(species, (votes.get(species) ?? 0) + 1));
  return [...votes].reduce((best, vote) => (vote[1] > best[1] ? vote : best))[0];
}

module.exports = { classify };
