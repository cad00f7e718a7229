#!/bin/bash
# Ranks US airports and states by departures in 2008: routes joined with airports, by the system's text tools.
set -euo pipefail

departures() { # iata <tab> flights, sorted by iata
  tail -n +2 data/flights-airport.csv |
    awk -F, '{ flights[$1] += $3 } END { for (iata in flights) print iata "\t" flights[iata] }' |
    sort -k1,1
}

airports() { # iata <tab> name <tab> city <tab> state, sorted by iata; lines with quoted commas are left out
  tail -n +2 data/airports.csv | grep -v '"' |
    awk -F, -v OFS='\t' '{ print $1, $2, $3, $4 }' |
    sort -k1,1
}

join -t $'\t' <(departures) <(airports) | sort -t $'\t' -k2,2nr -k1,1 > joined.tmp

{ printf 'iata\tflights\tname\tcity\tstate\n'; head -n 25 joined.tmp; } > airports.tsv
{
  printf 'state\tflights\tairports\n'
  awk -F'\t' '{ flights[$5] += $2; n[$5]++ } END { for (s in n) print s "\t" flights[s] "\t" n[s] }' joined.tmp |
    sort -t $'\t' -k2,2nr -k1,1
} > states.tsv

awk -F'\t' '{ total += $2 } END { print NR " airports, " total " flights" }' joined.tmp
head -n 4 airports.tsv | column -t -s $'\t' 2>/dev/null || head -n 4 airports.tsv
rm joined.tmp
