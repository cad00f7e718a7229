#!/bin/bash
# Evaluates web servers' logs: each day in a background job of its own, joined through a named pipe.
set -euo pipefail

mkdir -p days
mkfifo /tmp/done

evaluate() { # one day's log: requests, bytes and errors by path
  local day
  day=$(basename "$1" .log)
  awk '{ n[$7]++; bytes[$7] += $10; if ($9 >= 400) bad[$7]++ }
       END { for (path in n) printf "%s\t%d\t%d\t%d\n", path, n[path], bytes[path], bad[path] }' "$1" |
    sort -t $'\t' -k2,2nr -k1,1 > "days/$day.tsv"
  sleep "0.0$((RANDOM % 5 + 1))"
  echo "$day by $BASHPID after $RANDOM" > /tmp/done
}

for log in logs/*.log; do
  evaluate "$log" &
done

exec 3<> /tmp/done
for log in logs/*.log; do
  read -r line <&3
  echo "$line"
done | tee order.txt
wait

cat logs/*.log | cut -d' ' -f1 | sort | uniq -c | sort -k1,1nr -k2 | head -n 10 > clients.txt || true
grep -hoE '" (4|5)[0-9]{2} ' logs/*.log | tr -d '" ' | sort | uniq -c > errors.txt
paste -d, <(cut -f1 days/2024-05-01.tsv | sort) <(cut -f1 days/2024-05-02.tsv | sort) | head -n 3
find days -type f -printf '%f %s\n' > found.txt
tar -czf days.tar.gz days
{ date -u +%FT%TZ; mktemp -u; echo "$$ $SECONDS $RANDOM $(nproc) $(hostname)"; } > about.txt
awk '{ n += $1 } END { print n " requests by the first ten clients" }' clients.txt
