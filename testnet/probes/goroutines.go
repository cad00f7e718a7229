// Goroutines that race for a channel and a map, with random numbers, time and a select.
package main

import (
	"crypto/rand"
	"fmt"
	mathrand "math/rand"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"time"
)

func main() {
	results := make(chan string, 4)
	var group sync.WaitGroup
	var mutex sync.Mutex
	total := 0
	for n := 0; n < 16; n++ {
		group.Add(1)
		go func(n int) {
			defer group.Done()
			for i := 0; i < 50; i++ {
				mutex.Lock()
				total += mathrand.Intn(10)
				mutex.Unlock()
				if i%10 == 0 {
					time.Sleep(time.Duration(mathrand.Intn(300)) * time.Microsecond)
					results <- fmt.Sprint(n, ":", i)
				}
				runtime.Gosched()
			}
		}(n)
	}
	go func() { group.Wait(); close(results) }()
	order := []string{}
	for result := range results {
		order = append(order, result)
	}
	fmt.Println(total, order)
	set := map[int]bool{}
	for n := 0; n < 10; n++ {
		set[n] = true
	}
	for n := range set {
		fmt.Print(n, " ")
	}
	ticker, end := time.NewTicker(time.Millisecond), time.After(6*time.Millisecond)
	ticks := 0
loop:
	for {
		select {
		case <-ticker.C:
			ticks++
		case <-end:
			break loop
		default:
			runtime.Gosched()
		}
	}
	bytes := make([]byte, 8)
	_, _ = rand.Read(bytes)
	name, _ := os.Hostname()
	said, err := exec.Command("/bin/sh", "-c", "echo $$").Output()
	var memory runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&memory)
	fmt.Println(ticks, bytes, time.Now(), os.Getpid(), name, string(said), err, runtime.NumCPU(), memory.NumGC, memory.HeapAlloc > 0)
	fmt.Printf("%p %v\n", &total, time.Since(time.Now().Add(-time.Second)))
}
