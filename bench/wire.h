/* What backend.c and load.c both need to know of HTTP/1.1: where a message's head ends, and where its body ends.
 *
 * A message is read in whatever pieces the socket gives. Its payload (the body without the framing of chunks) is handed
 * on piece by piece; nothing is kept but the head. Pipelining is not spoken: neither program sends it.
 */
#ifndef WIRE_H
#define WIRE_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <time.h>

enum place { IN_HEAD, IN_LENGTH, IN_SIZE, IN_CHUNK, AFTER_CHUNK, IN_TRAILER, UNTIL_CLOSE, AT_END, BROKEN };

struct message {
    enum place place;
    uint64_t left;      /* bytes that the body, or this chunk, still has */
    size_t line;        /* bytes of the current line: of a size, or of a trailer */
    int closes;         /* "connection: close" was said */
    size_t head_length; /* the head stands in `head`, ended by a zero once it is complete */
    char head[4096];
};

typedef void payload(void *owner, const char *bytes, size_t length);

static void begin_message(struct message *m) {
    m->place = IN_HEAD;
    m->left = m->line = m->head_length = 0;
    m->closes = 0;
}

static int line_is(const char *line, const char *name, size_t length) {
    return strncasecmp(line, name, length) == 0;
}

/* The head is complete: see how the body is framed. A request without length has none; an answer ends by close. */
static void frame_body(struct message *m, int is_answer) {
    m->place = is_answer ? UNTIL_CLOSE : AT_END;
    for (char *line = strchr(m->head, '\n'); line != NULL; line = strchr(line, '\n')) {
        line++;
        if ((*line | 32) == 'c' && line_is(line, "content-length:", 15)) {
            m->left = strtoull(line + 15, NULL, 10);
            m->place = m->left ? IN_LENGTH : AT_END;
        } else if ((*line | 32) == 'c' && line_is(line, "connection:", 11)) {
            line += 11 + strspn(line + 11, " ");
            m->closes = line_is(line, "close", 5);
        } else if ((*line | 32) == 't' && line_is(line, "transfer-encoding: chunked", 26)) {
            m->place = IN_SIZE;
            m->left = 0;
            return;
        }
    }
}

static size_t read_head(struct message *m, const char *bytes, size_t length, int is_answer) {
    size_t before = m->head_length, room = sizeof m->head - 1 - before;
    size_t taken = length < room ? length : room;
    memcpy(m->head + before, bytes, taken);
    size_t from = before > 3 ? before - 3 : 0;
    char *end = memmem(m->head + from, before + taken - from, "\r\n\r\n", 4);
    if (end == NULL) {
        m->head_length += taken;
        if (taken == room)
            m->place = BROKEN; /* longer than any head that belongs here */
        return taken;
    }
    m->head_length = (size_t)(end + 4 - m->head);
    m->head[m->head_length] = 0;
    frame_body(m, is_answer);
    return m->head_length - before;
}

/* Take what belongs to this message from `bytes`; returns how many that were. Stop when `place` is AT_END or BROKEN. */
static size_t read_message(struct message *m, const char *bytes, size_t length, int is_answer, payload *hand_on,
                           void *owner) {
    size_t at = 0;
    while (at < length && m->place != AT_END && m->place != BROKEN) {
        if (m->place == IN_HEAD) {
            at += read_head(m, bytes + at, length - at, is_answer);
        } else if (m->place == UNTIL_CLOSE) {
            hand_on(owner, bytes + at, length - at);
            at = length;
        } else if (m->place == IN_LENGTH || m->place == IN_CHUNK) {
            size_t part = length - at < m->left ? length - at : (size_t)m->left;
            hand_on(owner, bytes + at, part);
            at += part;
            m->left -= part;
            if (m->left == 0)
                m->place = m->place == IN_LENGTH ? AT_END : AFTER_CHUNK;
        } else { /* the framing of chunks, a byte at a time: a size, the line end after a chunk, trailers */
            char c = bytes[at++];
            if (c == '\n') {
                if (m->place == AFTER_CHUNK)
                    m->place = IN_SIZE;
                else if (m->place == IN_SIZE)
                    m->place = m->line == 0 ? BROKEN : m->left ? IN_CHUNK : IN_TRAILER;
                else if (m->line == 0)
                    m->place = AT_END;
                m->line = 0;
            } else if (c != '\r') {
                m->line++;
                if (m->place == AFTER_CHUNK || m->line > 1000)
                    m->place = BROKEN;
                else if (m->place == IN_SIZE) {
                    int digit = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
                    if (digit < 0)
                        m->place = BROKEN; /* chunk extensions: nobody here sends any */
                    else
                        m->left = m->left * 16 + (uint64_t)digit;
                }
            }
        }
    }
    return at;
}

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* User and system time of this process, in seconds: so that a report can say whether it was the bottleneck. */
static double own_cpu(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

#endif
