'use strict';

/** Centres each column on its mean and divides it by its standard deviation. */
function standardise(rows) {
  const columns = rows[0].map((_, column) => {
    const values = rows.map((row) => row[column]);
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length;
    return { mean, deviation: Math.sqrt(variance) };
  });
  return rows.map((row) => row.map((value, i) => (value - columns[i].mean) / columns[i].deviation));
}

module.exports = { standardise };
