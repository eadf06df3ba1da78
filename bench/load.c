/* The load: what a gateway is measured with. Linux, one thread, epoll, keep-alive connections to 127.0.0.1.
 *
 *     load MODE --port P --body FILE [--path /v1/chat/completions] [--header "Name: value"]... [--connections C]
 *          [--seconds S] [--requests R] [--rate PER_SECOND] [--ramp SECONDS] [--grace SECONDS]
 *
 *     closed   every connection sends the next request as soon as it has the answer; for S seconds or R requests
 *     open     RATE requests a second, whatever the answers do. Latency counts from the moment at which a request was
 *              meant to start, also where it had to wait for a free connection: nothing is left out by coordination
 *     stream   as closed, of server-sent events: counts events, the time to the first byte of the body, and the gaps
 *              between reads that brought an event
 *     hold     opens C streams (over RAMP seconds) and reports when each has had its first event; then goes on reading
 *              until its standard input ends
 *
 * After S seconds nothing new is started; what is in flight may take GRACE seconds to end. Prints one line of JSON:
 * latencies in microseconds, the CPU time of this process in seconds. `errors` are answers other than 200, cut ones,
 * connections that failed, and streams without [DONE] at their end; `missed` did not end within the grace.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "wire.h"

enum state { IDLE, BUSY }; /* idle: with a connection that is kept, or with none yet (fd -1) */

struct connection {
    int fd, waits_for_room;
    enum state state;
    size_t sent;          /* bytes of the request */
    int64_t start, heard; /* when the request was meant to start; when the last event came, 0 before the first */
    long events;          /* of this answer */
    char newline;         /* whether the payload so far ends in one */
    char last[16];        /* of the payload */
    struct message answer;
};

static struct { int port, connections, streaming; long requests; double seconds, rate, ramp, grace; } o;
static char *request;
static size_t request_length;
static int poller;
static struct connection *all, **idle;
static int idle_count, busy_count;
static int64_t last_end; /* when the last answer was complete */
static long started, finished, errors, events, bytes_in, first_heard;

/* ---- latencies, in ns: 64 buckets for each power of two, so that a figure is off by less than 1 % */

struct histogram { uint64_t counts[64 * 128], total; int64_t longest; };
static struct histogram latencies, firsts, gaps;

static void record(struct histogram *h, int64_t ns) {
    uint64_t v = ns < 1 ? 1 : (uint64_t)ns;
    int shift = 57 - __builtin_clzll(v | 127); /* so that v >> shift is below 128 */
    h->counts[(size_t)shift * 128 + (v >> shift)]++;
    h->total++;
    if (ns > h->longest)
        h->longest = ns;
}

static double quantile(const struct histogram *h, double q) {
    uint64_t wanted = (uint64_t)(q * (double)h->total), seen = 0;
    for (size_t i = 0; i < sizeof h->counts / sizeof *h->counts; i++)
        if ((seen += h->counts[i]) > wanted)
            return ((double)(i % 128) + .5) * (double)(1ull << (i / 128)) / 1000;
    return (double)h->longest / 1000;
}

static void print_histogram(const char *name, const struct histogram *h) {
    if (h->total > 0)
        printf(", \"%s\": {\"count\": %lu, \"p50\": %.1f, \"p99\": %.1f, \"p999\": %.1f, \"max\": %.1f}", name,
               h->total, quantile(h, .5), quantile(h, .99), quantile(h, .999), (double)h->longest / 1000);
}

/* ---- one answer */

static void hear(void *owner, const char *bytes, size_t length) {
    struct connection *c = owner;
    size_t kept = sizeof c->last;
    if (length >= kept) {
        memcpy(c->last, bytes + length - kept, kept);
    } else {
        memmove(c->last, c->last + length, kept - length);
        memcpy(c->last + kept - length, bytes, length);
    }
    if (!o.streaming || length == 0)
        return;
    if (c->newline && *bytes == '\n') /* an event's blank line came in two reads */
        c->events++;
    const char *end = bytes + length;
    for (const char *at = bytes; (at = memchr(at, '\n', (size_t)(end - at))) != NULL && ++at < end;)
        if (*at == '\n')
            c->events++;
    c->newline = end[-1] == '\n';
}

static void go_idle(struct connection *c) {
    c->state = IDLE;
    idle[idle_count++] = c;
}

static void leave(struct connection *c) {
    close(c->fd);
    c->fd = -1;
}

static void watch(struct connection *c, int for_room) {
    if (c->waits_for_room == for_room)
        return;
    c->waits_for_room = for_room;
    struct epoll_event e = {.events = EPOLLIN | (for_room ? EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &e);
}

static void failed(struct connection *c) {
    errors++;
    busy_count--;
    leave(c);
    go_idle(c);
}

static void ended(struct connection *c) {
    int64_t now = now_ns();
    int ok = c->answer.place != BROKEN && strncmp(c->answer.head, "HTTP/1.1 200", 12) == 0;
    if (o.streaming)
        ok = ok && memmem(c->last, sizeof c->last, "[DONE]", 6) != NULL;
    if (!ok) {
        if (errors == 0) /* the first one is shown: it says more than a count */
            fprintf(stderr, "not a good answer: %.*s ... %.*s\n", (int)strcspn(c->answer.head, "\r"), c->answer.head,
                    (int)sizeof c->last, c->last);
        failed(c);
        return;
    }
    busy_count--;
    finished++;
    last_end = now;
    record(&latencies, now - c->start);
    if (c->answer.closes || c->answer.place == UNTIL_CLOSE)
        leave(c);
    go_idle(c);
}

static void put_request(struct connection *c) {
    while (c->sent < request_length) {
        ssize_t n = write(c->fd, request + c->sent, request_length - c->sent);
        if (n < 0) {
            if (errno == EAGAIN)
                watch(c, 1);
            else
                failed(c);
            return;
        }
        c->sent += (size_t)n;
    }
    watch(c, 0);
}

static void begin(struct connection *c, int64_t meant) {
    if (c->fd < 0) {
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)o.port)};
        to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        int on = 1;
        if (c->fd < 0) {
            perror("socket");
            exit(1);
        }
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        connect(c->fd, (struct sockaddr *)&to, sizeof to); /* what goes wrong shows itself at the first write */
        c->waits_for_room = 0;
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &e);
    }
    c->state = BUSY;
    c->start = meant;
    c->sent = 0;
    c->heard = c->events = 0;
    c->newline = 0;
    begin_message(&c->answer);
    busy_count++;
    started++;
    put_request(c);
}

static void readable(struct connection *c) {
    static char bytes[1 << 18];
    ssize_t n = read(c->fd, bytes, sizeof bytes);
    if (n < 0 && errno == EAGAIN)
        return;
    if (c->state == IDLE) { /* the server closes a connection that was kept: the next request makes a new one */
        leave(c);
        return;
    }
    if (n <= 0) {
        if (n == 0 && c->answer.place == UNTIL_CLOSE)
            ended(c);
        else
            failed(c);
        return;
    }
    bytes_in += n;
    long before = c->events;
    read_message(&c->answer, bytes, (size_t)n, 1, hear, c);
    if (c->events > before) {
        int64_t now = now_ns();
        events += c->events - before;
        if (c->heard != 0) {
            record(&gaps, now - c->heard);
        } else {
            first_heard++;
            record(&firsts, now - c->start);
        }
        c->heard = now;
    }
    if (c->answer.place == AT_END || c->answer.place == BROKEN)
        ended(c);
}

/* Serve the events of at most `wait` ns. */
static void pass(int64_t wait) {
    struct epoll_event ready[512];
    if (wait < 0)
        wait = 0;
    struct timespec pause = {wait / 1000000000, wait % 1000000000};
    int n = epoll_pwait2(poller, ready, 512, &pause, NULL);
    for (int i = 0; i < n; i++) {
        struct connection *c = ready[i].data.ptr;
        if (c->fd >= 0 && c->state == BUSY && c->waits_for_room && ready[i].events & EPOLLOUT)
            put_request(c);
        if (c->fd >= 0 && ready[i].events & ~(uint32_t)EPOLLOUT)
            readable(c);
    }
}

/* ---- the program */

static char *read_file(const char *path, size_t *length) {
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        exit(2);
    }
    fseek(file, 0, SEEK_END);
    *length = (size_t)ftell(file);
    rewind(file);
    char *text = malloc(*length + 1);
    if (fread(text, 1, *length, file) != *length)
        exit(2);
    fclose(file);
    return text;
}

static void make_request(const char *path, const char *headers, const char *file) {
    size_t length;
    char *body = read_file(file, &length);
    request = malloc(length + strlen(path) + strlen(headers) + 256);
    int head = sprintf(request,
                       "POST %s HTTP/1.1\r\nhost: 127.0.0.1:%d\r\ncontent-type: application/json\r\n%s"
                       "content-length: %zu\r\n\r\n",
                       path, o.port, headers, length);
    memcpy(request + head, body, length);
    request_length = (size_t)head + length;
    free(body);
}

static void report(const char *mode, int64_t began, long missed) {
    double seconds = (double)((last_end > began ? last_end : now_ns()) - began) / 1e9;
    printf("{\"mode\": \"%s\", \"connections\": %d, \"started\": %ld, \"finished\": %ld, \"errors\": %ld, "
           "\"missed\": %ld, \"events\": %ld, \"open\": %ld, \"bytes\": %ld, \"seconds\": %.6f, \"rate\": %.1f, "
           "\"cpu\": %.6f",
           mode, o.connections, started, finished, errors, missed, events, first_heard, bytes_in, seconds,
           (double)finished / seconds, own_cpu());
    print_histogram("latency", &latencies);
    print_histogram("first", &firsts);
    print_histogram("gap", &gaps);
    printf("}\n");
    fflush(stdout);
}

int main(int count, char **words) {
    const char *path = "/v1/chat/completions", *file = NULL, *mode = count > 1 ? words[1] : "";
    static char headers[4096];
    o.connections = 1;
    o.seconds = 1;
    o.grace = 5;
    for (int i = 2; i + 1 < count; i += 2) {
        const char *name = words[i], *value = words[i + 1];
        if (strcmp(name, "--port") == 0) o.port = atoi(value);
        else if (strcmp(name, "--body") == 0) file = value;
        else if (strcmp(name, "--path") == 0) path = value;
        else if (strcmp(name, "--connections") == 0) o.connections = atoi(value);
        else if (strcmp(name, "--requests") == 0) o.requests = atol(value);
        else if (strcmp(name, "--seconds") == 0) o.seconds = atof(value);
        else if (strcmp(name, "--rate") == 0) o.rate = atof(value);
        else if (strcmp(name, "--ramp") == 0) o.ramp = atof(value);
        else if (strcmp(name, "--grace") == 0) o.grace = atof(value);
        else if (strcmp(name, "--header") == 0 && strlen(headers) + strlen(value) + 3 < sizeof headers)
            strcat(strcat(headers, value), "\r\n");
        else file = NULL, i = count;
    }
    int is_open = strcmp(mode, "open") == 0, holds = strcmp(mode, "hold") == 0;
    o.streaming = holds || strcmp(mode, "stream") == 0;
    if (file == NULL || o.port == 0 || o.connections < 1 || (is_open && o.rate <= 0) ||
        !(is_open || o.streaming || strcmp(mode, "closed") == 0)) {
        fprintf(stderr, "usage: load closed|open|stream|hold --port P --body FILE ...; its source says the rest\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    if (holds)
        fcntl(0, F_SETFL, O_NONBLOCK);
    prctl(PR_SET_TIMERSLACK, 1);
    make_request(path, headers, file);
    poller = epoll_create1(EPOLL_CLOEXEC);
    all = calloc((size_t)o.connections, sizeof *all);
    idle = calloc((size_t)o.connections, sizeof *idle);
    for (int i = o.connections - 1; i >= 0; i--) {
        all[i].fd = -1;
        go_idle(&all[i]);
    }

    int64_t began = now_ns(), until = began + (int64_t)(o.seconds * 1e9);
    double step = is_open ? 1e9 / o.rate : o.ramp * 1e9 / o.connections; /* ns between two starts, while they are paced */
    long wanted = is_open ? (long)(o.rate * o.seconds) : holds ? o.connections : o.requests ? o.requests : -1;
    int64_t now = began;
    while (errors < 1000) {
        int64_t next = began + (int64_t)((double)started * step);
        int paced = is_open || started < o.connections;
        while (idle_count > 0 && started != wanted && (!paced || next <= now) && (is_open || now < until)) {
            begin(idle[--idle_count], is_open ? next : now_ns());
            next = began + (int64_t)((double)started * step);
            paced = is_open || started < o.connections;
        }
        if ((holds && first_heard >= o.connections) || (!holds && started == wanted && busy_count == 0) ||
            now > until + (int64_t)(o.grace * 1e9) || (!is_open && o.requests == 0 && now > until && busy_count == 0))
            break;
        pass(idle_count > 0 && started != wanted && paced && next - now < 50000000 ? next - now : 50000000);
        now = now_ns();
    }
    report(mode, began, is_open ? wanted - finished - errors : busy_count);
    for (char end; holds && read(0, &end, 1) != 0 && errno == EAGAIN;)
        pass(50000000);
    return 0;
}
