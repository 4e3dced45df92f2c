/* The second floor: two processes that exchange the frames of the first in C, blocking, over two pipes.
 *
 * Reads from standard input, again and again, four 32-bit numbers: how often, how many bytes, the core of the one, the
 * core of the other (-1: any). Writes the nanoseconds of each exchange, 32 bits each. Ends at the end of its input.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static cpu_set_t all;

static void go_to(int32_t core) {
    cpu_set_t set;
    if (core < 0) {
        set = all;
    } else {
        CPU_ZERO(&set);
        CPU_SET(core, &set);
    }
    sched_setaffinity(0, sizeof set, &set);
}

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void answer(int in, int out, int32_t core, int32_t size) {
    static char data[4096];
    go_to(core);
    while (read(in, data, sizeof data) > 0)
        if (write(out, data, size) != size)
            break;
    _exit(0);
}

int main(void) {
    static char data[4096];
    int32_t order[4];
    sched_getaffinity(0, sizeof all, &all);
    while (fread(order, sizeof order, 1, stdin) == 1) {
        int there[2], back[2];
        int32_t count = order[0], size = order[1];
        if (size < 1 || size > (int32_t)sizeof data || pipe(there) || pipe(back))
            return 1;
        pid_t child = fork();
        if (child < 0)
            return 1;
        if (child == 0) {
            close(there[1]);
            answer(there[0], back[1], order[3], size);
        }
        close(there[0]);
        close(back[1]);
        go_to(order[2]);
        for (int32_t number = -20; number < count; number++) { /* the first 20 only warm up */
            int64_t started = now();
            if (write(there[1], data, size) != size || read(back[0], data, sizeof data) <= 0)
                return 1;
            uint32_t taken = (uint32_t)(now() - started);
            if (number >= 0)
                fwrite(&taken, sizeof taken, 1, stdout);
        }
        fflush(stdout);
        close(there[1]);
        close(back[0]);
        waitpid(child, NULL, 0);
    }
    return 0;
}
