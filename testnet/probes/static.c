// Threads of a static C program that race without a lock; addresses, time, random numbers.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile long counter;
static long order[8], place;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void *race(void *number) {
    for (int i = 0; i < 20000; i++) {
        counter++;
        if (i % 5000 == 0) usleep(rand() % 200);
    }
    pthread_mutex_lock(&lock);
    order[place++] = (long)number;
    pthread_mutex_unlock(&lock);
    return malloc(10);
}

int main(int argc, char **argv, char **env) {
    struct timespec now;
    unsigned char bytes[8];
    pthread_t threads[8];
    clock_gettime(CLOCK_REALTIME, &now);
    srand((unsigned)now.tv_nsec);
    for (long n = 0; n < 8; n++) pthread_create(&threads[n], NULL, race, (void *)n);
    for (int n = 0; n < 8; n++) {
        void *block;
        pthread_join(threads[n], &block);
        printf("%p ", block);
    }
    printf("\n%ld:", counter);
    for (int n = 0; n < 8; n++) printf(" %ld", order[n]);
    getrandom(bytes, sizeof bytes, 0);
    printf("\n%ld.%09ld %d", (long)now.tv_sec, now.tv_nsec, rand());
    for (int n = 0; n < 8; n++) printf(" %02x", bytes[n]);
    printf("\n%p %p %p %p %p\n", (void *)&counter, (void *)&now, malloc(100000), (void *)argv, (void *)env);
    printf("%d %lx %lx\n", getpid(), getauxval(AT_SYSINFO_EHDR), *(unsigned long *)getauxval(AT_RANDOM));
    fflush(stdout);
    for (int n = 0; n < 3; n++)
        if (fork() == 0) {
            usleep((unsigned)rand() % 1000);
            _exit(n);
        }
    for (int n = 0, status; n < 3; n++) printf("%d ended\n", wait(&status));
    return argc - 1;
}
