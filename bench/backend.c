/* A model server that costs next to nothing: what a gateway is measured in front of. Linux, one thread, epoll.
 *
 *     backend --ports 9101,9102 [--chunks 200] [--interval MS]
 *
 * HTTP/1.1 with keep-alive on every port of 127.0.0.1. POST, any path: a chat completion of about 1 KB with usage, as
 * JSON; where the body says "stream": true, as server-sent events: `chunks` of about 200 bytes, each one write and one
 * HTTP chunk, one every `interval` (0: as fast as the socket takes them), then [DONE]. A request may ask for other
 * figures in the text of its message, which every gateway passes on: "chunks=20 interval=5". GET /health and /v1/models
 * answer; other GETs are 404. SIGTERM ends it, with one line of JSON: what it did and the CPU time that it took.
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

#define WINDOW 2048 /* of a body, its first and last bytes are looked at: no gateway puts our fields in the middle */

struct connection {
    int fd; /* -1: closed, and to be freed */
    int waits_for_room;
    size_t place_in_heap; /* from 1; 0: not in it */
    int64_t due;          /* when its next chunk goes out */
    int64_t interval;
    long chunks_left; /* including the last one, that ends the stream; 0: no stream */
    const char *out;  /* what the socket did not take yet: always part of one of the constant texts */
    size_t out_left;
    size_t first_length, last_length;
    char first[WINDOW], last[WINDOW];
    struct message request;
};

static int poller;
static volatile sig_atomic_t stopping;
static long default_chunks = 200;
static double default_interval = 0; /* ms */
static long requests, chunks_sent, streams;

/* ---- the texts */

static char completion[2048], health[256], models[512], missing[256], stream_head[256], chunks[2][512], stream_end[1024];
static size_t completion_length, health_length, models_length, missing_length, stream_head_length, chunk_length,
    stream_end_length;

static size_t make_answer(char *into, size_t room, const char *status, const char *body) {
    const char *form = "HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n%s";
    return (size_t)snprintf(into, room, form, status, strlen(body), body);
}

static size_t make_chunk(char *into, size_t room, const char *event) {
    return (size_t)snprintf(into, room, "%zx\r\n%s\r\n", strlen(event), event);
}

static void make_texts(void) {
    char text[900] = "", body[1500], event[512];
    while (strlen(text) < 720)
        strcat(text, "All work and no play. ");
    snprintf(body, sizeof body,
             "{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"bench\","
             "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"%s\"},"
             "\"logprobs\":null,\"finish_reason\":\"stop\"}],"
             "\"usage\":{\"prompt_tokens\":40,\"completion_tokens\":200,\"total_tokens\":240}}",
             text);
    completion_length = make_answer(completion, sizeof completion, "200 OK", body);
    health_length = make_answer(health, sizeof health, "200 OK", "{\"status\":\"ok\"}");
    models_length = make_answer(models, sizeof models, "200 OK",
                                "{\"object\":\"list\",\"data\":[{\"id\":\"bench\",\"object\":\"model\","
                                "\"created\":1700000000,\"owned_by\":\"bench\"}]}");
    missing_length = make_answer(missing, sizeof missing, "404 Not Found", "{\"error\":{\"message\":\"not found\"}}");
    strcpy(stream_head, "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
                        "transfer-encoding: chunked\r\n\r\n");
    stream_head_length = strlen(stream_head);
    const char *form = "data: {\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,"
                       "\"model\":\"bench\",\"choices\":[{\"index\":0,\"delta\":{%s},\"finish_reason\":%s}]%s}\n\n";
    /* Two by turns: some gateways take a hundred equal ones for a model that is stuck, and cut it. */
    snprintf(event, sizeof event, form, "\"content\":\" black\"", "null", "");
    chunk_length = make_chunk(chunks[0], sizeof chunks[0], event);
    snprintf(event, sizeof event, form, "\"content\":\" white\"", "null", "");
    chunk_length = make_chunk(chunks[1], sizeof chunks[1], event);
    snprintf(event, sizeof event, form, "", "\"stop\"",
             ",\"usage\":{\"prompt_tokens\":40,\"completion_tokens\":200,\"total_tokens\":240}");
    strcat(event, "data: [DONE]\n\n");
    stream_end_length = make_chunk(stream_end, sizeof stream_end - 6, event);
    strcpy(stream_end + stream_end_length, "0\r\n\r\n");
    stream_end_length += 5;
}

/* ---- whose chunk is due next: a heap, the earliest on top */

static struct connection **heap;
static size_t heap_length, heap_room;

static void put(struct connection *c, size_t at) {
    heap[at] = c;
    c->place_in_heap = at;
}

static void settle(struct connection *c, size_t at) {
    while (at > 1 && heap[at / 2]->due > c->due) {
        put(heap[at / 2], at);
        at /= 2;
    }
    for (;;) {
        size_t child = 2 * at;
        if (child < heap_length && heap[child + 1]->due < heap[child]->due)
            child++;
        if (child > heap_length || heap[child]->due >= c->due)
            break;
        put(heap[child], at);
        at = child;
    }
    put(c, at);
}

static void schedule(struct connection *c, int64_t due) {
    c->due = due;
    if (c->place_in_heap == 0) {
        if (heap_length + 2 > heap_room) {
            heap_room = heap_room ? 2 * heap_room : 1024;
            heap = realloc(heap, heap_room * sizeof *heap);
        }
        c->place_in_heap = ++heap_length;
    }
    settle(c, c->place_in_heap);
}

static void unschedule(struct connection *c) {
    size_t at = c->place_in_heap;
    if (at == 0)
        return;
    struct connection *moved = heap[heap_length--];
    c->place_in_heap = 0;
    if (moved != c)
        settle(moved, at);
}

/* ---- connections */

static void watch(struct connection *c, int for_room) {
    c->waits_for_room = for_room;
    struct epoll_event e = {.events = EPOLLIN | (for_room ? EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &e);
}

static void drop(struct connection *c) {
    unschedule(c);
    close(c->fd);
    c->fd = -1; /* freed once this round of events is through: one of them may still name it */
}

/* Write what is pending; 1 when nothing is left. */
static int flush(struct connection *c) {
    while (c->out_left > 0) {
        ssize_t n = write(c->fd, c->out, c->out_left);
        if (n < 0) {
            if (errno == EAGAIN) {
                watch(c, 1);
                return 0;
            }
            drop(c);
            return 0;
        }
        c->out += n;
        c->out_left -= (size_t)n;
    }
    return 1;
}

static int send_text(struct connection *c, const char *text, size_t length) {
    c->out = text;
    c->out_left = length;
    return flush(c);
}

static void answered(struct connection *c) {
    if (c->request.closes)
        drop(c);
    c->first_length = c->last_length = 0;
    begin_message(&c->request);
}

/* The next chunk of a stream. Without room the rest goes out when there is some, and the stream goes on then. */
static void send_chunk(struct connection *c, int64_t now) {
    int64_t due = c->due;
    unschedule(c);
    c->chunks_left--;
    chunks_sent++;
    if (!(c->chunks_left > 0 ? send_text(c, chunks[c->chunks_left % 2], chunk_length)
                             : send_text(c, stream_end, stream_end_length)))
        return;
    if (c->chunks_left == 0)
        answered(c);
    else
        schedule(c, c->interval ? due + c->interval : now + 1);
}

/* The figure (or `true`) after `name` in what was kept of the body, or `otherwise`. */
static double field(const char *text, size_t length, const char *name, double otherwise) {
    const char *found = memmem(text, length, name, strlen(name));
    if (found == NULL)
        return otherwise;
    found += strlen(name);
    while (*found == ' ' || *found == ':' || *found == '=')
        found++;
    if (strncmp(found, "true", 4) == 0)
        return 1;
    return *found >= '0' && *found <= '9' ? strtod(found, NULL) : otherwise;
}

static double asked(struct connection *c, const char *name, double otherwise) {
    return field(c->first, c->first_length, name, field(c->last, c->last_length, name, otherwise));
}

static void keep_ends(void *owner, const char *bytes, size_t length) {
    struct connection *c = owner;
    size_t head = WINDOW - 1 - c->first_length, tail = WINDOW - 1;
    if (head > length)
        head = length;
    memcpy(c->first + c->first_length, bytes, head);
    c->first_length += head;
    bytes += head;
    length -= head;
    if (length >= tail) {
        memcpy(c->last, bytes + length - tail, tail);
        c->last_length = tail;
    } else if (length > 0) {
        size_t kept = c->last_length + length > tail ? tail - length : c->last_length;
        memmove(c->last, c->last + c->last_length - kept, kept);
        memcpy(c->last + kept, bytes, length);
        c->last_length = kept + length;
    }
}

static void answer(struct connection *c) {
    requests++;
    c->first[c->first_length] = c->last[c->last_length] = 0;
    const char *head = c->request.head;
    if (strncmp(head, "POST ", 5) != 0) {
        int done;
        if (strncmp(head, "GET /health", 11) == 0)
            done = send_text(c, health, health_length);
        else if (strncmp(head, "GET /v1/models ", 15) == 0)
            done = send_text(c, models, models_length);
        else
            done = send_text(c, missing, missing_length);
        if (done)
            answered(c);
        return;
    }
    if (!asked(c, "\"stream\"", 0)) {
        if (send_text(c, completion, completion_length))
            answered(c);
        return;
    }
    streams++;
    c->interval = (int64_t)(asked(c, "interval=", default_interval) * 1e6);
    c->chunks_left = (long)asked(c, "chunks=", (double)default_chunks);
    if (c->chunks_left < 1)
        c->chunks_left = 1;
    if (send_text(c, stream_head, stream_head_length))
        schedule(c, now_ns()); /* its first chunk is due at once, in a write of its own, as engines do it */
}

static void readable(struct connection *c) {
    static char bytes[1 << 18];
    ssize_t n = read(c->fd, bytes, sizeof bytes);
    if (n < 0 && errno == EAGAIN)
        return;
    /* Bytes beyond a whole request would be pipelining: nobody who is measured here does that. */
    if (n <= 0 || c->request.place == AT_END) {
        drop(c);
        return;
    }
    size_t taken = read_message(&c->request, bytes, (size_t)n, 0, keep_ends, c);
    if (c->request.place == BROKEN || taken < (size_t)n)
        drop(c);
    else if (c->request.place == AT_END)
        answer(c);
}

static void writable(struct connection *c) {
    if (!c->waits_for_room || !flush(c))
        return;
    watch(c, 0);
    if (c->chunks_left > 0)
        schedule(c, now_ns());
    else
        answered(c);
}

static void accept_all(int listener) {
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct connection *c = calloc(1, sizeof *c);
        c->fd = fd;
        begin_message(&c->request);
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e);
    }
}

static int listen_on(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 4096) != 0) {
        perror("listen");
        exit(1);
    }
    return fd;
}

static void stop(int number) {
    (void)number;
    stopping = 1;
}

int main(int count, char **words) {
    static struct { int fd; } listeners[16];
    size_t open = 0;
    poller = epoll_create1(EPOLL_CLOEXEC);
    prctl(PR_SET_TIMERSLACK, 1); /* chunks on time, not when it suits the kernel */
    for (int i = 1; i + 1 < count; i += 2) {
        if (strcmp(words[i], "--chunks") == 0)
            default_chunks = atol(words[i + 1]);
        else if (strcmp(words[i], "--interval") == 0)
            default_interval = atof(words[i + 1]);
        else if (strcmp(words[i], "--ports") == 0)
            for (char *port = strtok(words[i + 1], ","); port != NULL && open < 16; port = strtok(NULL, ","))
                listeners[open++].fd = listen_on(atoi(port));
    }
    if (open == 0) {
        fprintf(stderr, "usage: backend --ports PORT[,PORT] [--chunks N] [--interval MS]\n");
        return 2;
    }
    for (size_t i = 0; i < open; i++) {
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = &listeners[i]};
        epoll_ctl(poller, EPOLL_CTL_ADD, listeners[i].fd, &e);
    }
    make_texts();
    signal(SIGPIPE, SIG_IGN);
    struct sigaction on_stop = {.sa_handler = stop};
    sigaction(SIGTERM, &on_stop, NULL);
    sigaction(SIGINT, &on_stop, NULL);

    struct epoll_event events[512];
    while (!stopping) {
        struct timespec pause = {1, 0};
        if (heap_length > 0) {
            int64_t wait = heap[1]->due - now_ns();
            wait = wait < 0 ? 0 : wait > 1000000000 ? 1000000000 : wait;
            pause = (struct timespec){wait / 1000000000, wait % 1000000000};
        }
        int n = epoll_pwait2(poller, events, 512, &pause, NULL);
        struct connection *gone[512];
        size_t left = 0;
        for (int i = 0; i < n; i++) {
            void *who = events[i].data.ptr;
            if ((char *)who >= (char *)listeners && (char *)who < (char *)(listeners + 16)) {
                accept_all(*(int *)who);
                continue;
            }
            struct connection *c = who;
            if (events[i].events & EPOLLOUT)
                writable(c);
            if (c->fd >= 0 && events[i].events & ~(uint32_t)EPOLLOUT)
                readable(c);
            if (c->fd < 0)
                gone[left++] = c;
        }
        while (left > 0)
            free(gone[--left]);
        /* One pass: with an interval of 0 a stream is due again at once, but only after all the others. */
        int64_t now = now_ns();
        while (heap_length > 0 && heap[1]->due <= now) {
            struct connection *c = heap[1];
            send_chunk(c, now);
            if (c->fd < 0)
                free(c);
        }
    }
    printf("{\"requests\": %ld, \"streams\": %ld, \"chunks\": %ld, \"cpu\": %.6f}\n", requests, streams, chunks_sent,
           own_cpu());
    return 0;
}
