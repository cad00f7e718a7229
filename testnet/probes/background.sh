#!/bin/bash
# Background jobs that race for a pipe and a file, with random numbers, dates and process ids.
for job in 1 2 3 4 5 6; do
  (
    sleep "0.0$((RANDOM % 9))"
    echo "job $job is $BASHPID at $(date +%s.%N) with $RANDOM $SRANDOM" >> log.txt
    exit "$job"
  ) &
  echo "started $!"
done
for _ in 1 2 3 4 5 6; do
  wait -n
  echo "ended with $?"
done
cat log.txt
coproc cat
echo "to $COPROC_PID" >&"${COPROC[1]}"
read -r line <&"${COPROC[0]}"
echo "from: $line"
eval "exec ${COPROC[1]}>&-"
trap 'echo "signal after $SECONDS s, $(wc -l < log.txt) lines"' USR1
(sleep 0.05; kill -USR1 $$) &
wait
echo "$$ $PPID $RANDOM $EPOCHREALTIME $HOSTNAME $(nproc) $(uname -a) $(mktemp) $(id -u)"
shuf -i 1-20 | tr '\n' ' '
yes | head -n 100000 | tee >(md5sum > sum.txt) | wc -c
wait
ls -lU --time-style=full-iso
head -c 8 /dev/urandom | od -An -tx1
cat /proc/sys/kernel/random/uuid /proc/uptime /proc/loadavg /etc/hostname
