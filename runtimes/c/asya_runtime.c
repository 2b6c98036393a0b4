// SPDX-License-Identifier: Apache-2.0
/*
 * See asya_runtime.h. From top to bottom: settings, the worker process with its watcher thread, the
 * parent that supervises.
 *
 * The parent owns the listening socket and never touches a message. Each worker accepts connections
 * by itself and serves one at a time, so that nothing but the kernel stands between a sidecar and
 * a handler. A watcher thread in the worker sleeps until the peer hangs up; when a handler is
 * running then, the peer has cancelled it, and the process ends.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "asya_message.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	FRAME_SLACK = 65536,      /* what a frame may have beyond a message */
	READ_ROOM = 65536,        /* what is read at once while no longer frame is announced */
	READ_ROOM_KEPT = 1 << 22, /* a buffer that grew beyond this is given back */
	AHEAD = 32,     /* requests on a connection: they wait in the socket and in `in` */
	IDLE_MS = 1000, /* a worker that is to stop waits so long for another connection */
	WORKERS_MAX = 1024,
	BACKOFF_MS = 100, /* before the second restart in a row; doubles up to the next */
	BACKOFF_MAX_MS = 5000,
	CALM_MS = 10000,     /* a worker that lived so long starts a new count of crashes */
	EXIT_CANCELLED = 75, /* exit codes of workers */
	EXIT_START = 76,
};

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR };

static enum log_level log_level = LOG_INFO;

static const char *const level_names[] = {"DEBUG", "INFO", "WARNING", "ERROR"};

__attribute__((format(printf, 3, 4))) static void log_line(enum log_level level, const char *event,
							   const char *format, ...)
{
	struct asya_out b = {0};
	struct timespec now;
	char head[256], text[1024], when[32];
	struct tm utc;
	ssize_t written;
	va_list ap;

	if (level < log_level)
		return;
	va_start(ap, format);
	vsnprintf(text, sizeof text, format, ap);
	va_end(ap);
	clock_gettime(CLOCK_REALTIME, &now);
	strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", gmtime_r(&now.tv_sec, &utc));
	snprintf(head, sizeof head,
		 "{\"time\":\"%s.%06ldZ\",\"level\":\"%s\",\"program\":\"asya-runtime\",\"event\":"
		 "\"%s\","
		 "\"pid\":%d,\"text\":",
		 when, now.tv_nsec / 1000, level_names[level], event, (int)getpid());
	asya_out_add(&b, head, strlen(head));
	asya_message_quote(&b, (struct asya_view){text, strlen(text)});
	asya_out_add(&b, "}\n", 2);
	written = write(STDERR_FILENO, b.p, b.n);
	(void)written;
	free(b.p);
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
	return -1;
}

/* ---- settings */

struct settings {
	char socket_path[sizeof((struct sockaddr_un *)0)->sun_path];
	char ready_path[PATH_MAX];
	long chmod; /* -1: leave it */
	long workers;
	long max_message_bytes;
	long grace_ms;
};

static int refuse(const char *name, const char *value, const char *right)
{
	log_line(LOG_ERROR, "bad_setting", "%s='%s': must be %s", name, value, right);
	return -1;
}

static int setting_long(const char *name, long low, long high, long *ret)
{
	const char *value = getenv(name);
	char right[64], *end;
	long n;

	if (!value || !*value)
		return 0;
	errno = 0;
	n = strtol(value, &end, 10);
	if (*value >= '0' && *value <= '9' && !*end && !errno && n >= low && n <= high) {
		*ret = n;
		return 0;
	}
	snprintf(right, sizeof right, "a number from %ld to %ld", low, high);
	return refuse(name, value, right);
}

/* A Go duration in milliseconds. */
static int setting_duration(const char *name, long *ret)
{
	static const struct {
		const char *name;
		double ms;
	} units[] = {{"ms", 1}, {"us", 1e-3}, {"ns", 1e-6}, {"s", 1e3}, {"m", 6e4}, {"h", 36e5}};
	const char *value = getenv(name), *p = value;
	double total = 0;

	if (!value || !*value)
		return 0;
	while (*p) {
		char *end = NULL;
		double n = *p >= '0' && *p <= '9' ? strtod(p, &end) : -1;
		size_t i = 0;

		while (end && i < 6 && strncmp(end, units[i].name, strlen(units[i].name)) != 0)
			i++;
		if (!end || i == 6)
			return refuse(name, value, "a duration such as 30s, 1m30s or 500ms");
		total += n * units[i].ms;
		p = end + strlen(units[i].name);
	}
	if (total > 864e5)
		return refuse(name, value, "at most 24h");
	*ret = (long)total;
	return 0;
}

static int setting_chmod(const char *name, long *ret)
{
	const char *value = getenv(name), *digits = value;
	char *end;
	long n;

	if (!value)
		return 0;
	*ret = -1;
	if (!*value)
		return 0;
	if (digits[0] == '0' && (digits[1] == 'o' || digits[1] == 'O'))
		digits += 2;
	n = strtol(digits, &end, 8);
	if (*digits < '0' || *digits > '7' || *end || n > 0777)
		return refuse(name, value, "an octal mode up to 0o777");
	*ret = n;
	return 0;
}

static int setting_level(const char *name)
{
	const char *value = getenv(name);

	if (!value || !*value)
		return 0;
	for (int i = LOG_DEBUG; i <= LOG_ERROR; i++)
		if (strcasecmp(value, level_names[i]) == 0) {
			log_level = (enum log_level)i;
			return 0;
		}
	return refuse(name, value, "DEBUG, INFO, WARNING or ERROR");
}

static int settings_read(struct settings *s)
{
	const char *dir = getenv("ASYA_SOCKET_DIR");
	size_t room = sizeof s->socket_path;

	*s = (struct settings){
		.chmod = 0666, .workers = 1, .max_message_bytes = 64 << 20, .grace_ms = 30000};
	if (!dir || !*dir)
		dir = "/var/run/asya";
	if ((size_t)snprintf(s->socket_path, room, "%s/asya-runtime.sock", dir) >= room)
		return refuse("ASYA_SOCKET_DIR", dir,
			      "short: a socket's path has at most 107 bytes");
	snprintf(s->ready_path, sizeof s->ready_path, "%s/runtime-ready", dir);
	if (setting_level("ASYA_LOG_LEVEL") || setting_chmod("ASYA_SOCKET_CHMOD", &s->chmod) ||
	    setting_long("ASYA_WORKERS", 1, WORKERS_MAX, &s->workers) ||
	    setting_long("ASYA_MAX_MESSAGE_BYTES", 1, INT32_MAX, &s->max_message_bytes) ||
	    setting_duration("ASYA_GRACE_PERIOD", &s->grace_ms))
		return -1;
	return 0;
}

/* ---- the worker */

/* Bytes as they come from a connection. */
struct input {
	char *p;
	size_t n, room;
	size_t done; /* bytes of the frames that were yielded */
};

struct worker {
	const struct asya_actor *actor;
	struct asya_request request;
	struct input in;
	int listener, stop, epoll;
	/* Connections are numbered. The watcher writes `hung` and then reads `busy`, the handler's
	 * thread writes `busy` and then reads `hung`: one of them sees the other. */
	unsigned connection;
	atomic_uint busy; /* the connection whose handler runs; 0: none */
	atomic_uint hung; /* the last connection whose peer has closed */
};

static void *watch(void *user)
{
	struct worker *w = user;
	struct epoll_event event;

	for (;;) {
		if (epoll_wait(w->epoll, &event, 1, -1) != 1)
			continue;
		atomic_store(&w->hung, event.data.u32);
		if (atomic_load(&w->busy) != event.data.u32)
			continue;
		log_line(LOG_WARNING, "cancelled",
			 "the sidecar closed the connection: ending the handler");
		_exit(EXIT_CANCELLED);
	}
	return NULL;
}

static int watch_start(struct worker *w)
{
	sigset_t all, before;
	pthread_t thread;
	int code;

	w->epoll = epoll_create1(EPOLL_CLOEXEC);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	code = pthread_create(&thread, NULL, watch, w);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (w->epoll < 0 || code)
		return -1;
	pthread_detach(thread);
	return 0;
}

/* Writes all of it; -1: the peer is gone. */
static int send_all(int fd, const char *p, size_t n)
{
	while (n) {
		ssize_t sent = send(fd, p, n, MSG_NOSIGNAL);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0)
			return -1;
		p += sent;
		n -= (size_t)sent;
	}
	return 0;
}

/* Nothing is lost when the peer is gone: the watcher ends the handler then. */
static void flush(struct asya_request *r)
{
	send_all(r->fd, r->out.p, r->out.n);
	r->out.n = 0;
}

static void input_reserve(struct input *in, size_t room)
{
	if (in->room >= room)
		return;
	in->p = realloc(in->p, room);
	if (!in->p)
		abort();
	in->room = room;
}

/* Drops the frames that were yielded. */
static void input_shift(struct input *in)
{
	in->n -= in->done;
	if (in->n)
		memmove(in->p, in->p + in->done, in->n);
	in->done = 0;
	if (in->n == 0 && in->room > READ_ROOM_KEPT) {
		free(in->p);
		*in = (struct input){0};
	}
}

/* 1: *ret is the next frame, a view until the next call; 0: the peer has closed; -1: *ret is the
 * first byte of a frame whose length, ret->n, is more than `max`. */
static int input_frame(struct input *in, int fd, size_t max, struct asya_view *ret)
{
	const size_t head = ASYA_FRAME_HEAD;

	for (;;) {
		size_t have = in->n - in->done, length = 0;
		ssize_t n;

		if (have >= head) {
			const unsigned char *p = (const unsigned char *)in->p + in->done;

			length = (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
			*ret = (struct asya_view){(const char *)p + head, length};
		}
		if (have > head && length > max)
			return -1;
		if (have >= head && have - head >= length) {
			in->done += head + length;
			return 1;
		}
		input_shift(in);
		input_reserve(in, length + head > READ_ROOM && length <= max ? length + head
									     : READ_ROOM);
		do
			n = read(fd, in->p + in->n, in->room - in->n);
		while (n < 0 && errno == EINTR);
		if (n <= 0)
			return 0;
		in->n += (size_t)n;
	}
}

/* Runs the handler and sends its reply. 0, or -1 if the connection is of no more use. */
static int answer(struct worker *w, int version, struct asya_view text)
{
	struct asya_request *r = &w->request;

	asya_message_begin(r, version);
	if (asya_message_parse(r, text) == 0) {
		atomic_store(&w->busy, w->connection);
		if (atomic_load(&w->hung) == w->connection)
			return -1;
		w->actor->handle(r, w->actor->user);
	}
	if (r->failed)
		log_line(LOG_INFO, "failed", "id '%s': %s", asya_id(r), r->type);
	asya_message_end(r);
	/* Whoever has read this reply may close: from here on that is no cancel. */
	atomic_store(&w->busy, 0);
	return send_all(r->fd, r->out.p, r->out.n) || version == 1 ? -1 : 0;
}

static void answer_too_long(struct worker *w, int version, size_t length)
{
	struct asya_request *r = &w->request;

	log_line(LOG_WARNING, "frame_too_long", "%zu bytes, at most %zu are allowed", length,
		 r->limit);
	asya_message_begin(r, version);
	asya_message_refuse(r, "a frame of %zu bytes, at most %zu are allowed", length, r->limit);
	asya_message_end(r);
	send_all(r->fd, r->out.p, r->out.n);
}

/* Serves one connection until it ends. The first frame tells the version. */
static void converse(struct worker *w)
{
	struct asya_view frame;
	int version = 0, code;

	while ((code = input_frame(&w->in, w->request.fd, w->request.limit, &frame)) == 1) {
		char type = frame.n ? *frame.p : '\0';

		if (version == 2 && type >= 'a' && type <= 'z')
			continue;
		if (version == 2 && type != 'R') {
			log_line(LOG_WARNING, "bad_frame", "a frame of unknown type, byte %d",
				 type);
			return;
		}
		version = type == 'R' ? 2 : 1;
		if (version == 2)
			frame = (struct asya_view){frame.p + 1, frame.n - 1};
		if (answer(w, version, frame))
			return;
	}
	if (code < 0)
		answer_too_long(w, *frame.p == 'R' ? 2 : 1, frame.n);
}

static int serve_connection(struct worker *w, int fd)
{
	struct epoll_event event = {.events = EPOLLONESHOT};

	event.data.u32 = ++w->connection ? w->connection : ++w->connection;
	if (epoll_ctl(w->epoll, EPOLL_CTL_ADD, fd, &event))
		return -1;
	w->request.fd = fd;
	converse(w);
	atomic_store(&w->busy, 0);
	w->in.n = w->in.done = 0;
	epoll_ctl(w->epoll, EPOLL_CTL_DEL, fd, NULL);
	close(fd);
	return 0;
}

/* 1: *fd is the next connection; 0: it is time to go; -1: the worker is of no more use. */
static int next_connection(struct worker *w, int *fd)
{
	struct pollfd fds[] = {{.fd = w->listener, .events = POLLIN},
			       {.fd = w->stop, .events = POLLIN}};
	bool stopping = false;

	for (;;) {
		int n = poll(fds, stopping ? 1 : 2, stopping ? IDLE_MS : -1);

		if (n == 0)
			return 0;
		stopping = stopping || (n > 0 && fds[1].revents);
		*fd = accept4(w->listener, NULL, NULL, SOCK_CLOEXEC);
		if (*fd >= 0)
			return 1;
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
			return -1;
	}
}

/* Returns the exit code. */
static int work(struct worker *w, int ready)
{
	int fd, code;

	if (watch_start(w))
		return 1;
	if (w->actor->start && w->actor->start(w->actor->user))
		return EXIT_START;
	if (write(ready, "", 1) != 1)
		return 1;
	close(ready);
	while ((code = next_connection(w, &fd)) == 1)
		if (serve_connection(w, fd))
			return 1;
	return code ? 1 : 0;
}

/* ---- the parent */

struct slot {
	pid_t pid; /* 0: none */
	unsigned crashes;
	int64_t started_ms, start_at_ms;
	bool done; /* it ended in order while stopping */
};

struct parent {
	const struct asya_actor *actor;
	struct settings settings;
	struct slot *slots;
	sigset_t signals_before;
	int listener, signals;
	int stop_out, stop_in;   /* a byte in it tells the workers to stop */
	int ready_out, ready_in; /* a byte for each worker that has started */
	long ready;
	int64_t deadline_ms; /* of stopping; 0: not stopping */
	bool broken;         /* a worker could not start */
};

static void nothing(int signal)
{
	(void)signal;
}

__attribute__((noreturn)) static void worker_main(struct parent *p, pid_t parent)
{
	struct worker w = {.actor = p->actor,
			   .listener = p->listener,
			   .stop = p->stop_out,
			   .request = {.limit = (size_t)p->settings.max_message_bytes + FRAME_SLACK,
				       .flush = flush}};
	struct sigaction quiet = {.sa_handler = nothing, .sa_flags = SA_RESTART};
	int code;

	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	/* Only the parent acts on them. A handler, not SIG_IGN: programs started here get the
	 * default. */
	sigaction(SIGTERM, &quiet, NULL);
	sigaction(SIGINT, &quiet, NULL);
	sigprocmask(SIG_SETMASK, &p->signals_before, NULL);
	close_fd(p->signals);
	close_fd(p->stop_in);
	close_fd(p->ready_out);
	code = work(&w, p->ready_in);
	asya_message_fini(&w.request);
	free(w.in.p);
	fflush(NULL);
	_exit(code);
}

static int slot_start(struct parent *p, struct slot *s)
{
	pid_t self = getpid();

	fflush(NULL);
	s->started_ms = now_ms();
	s->pid = fork();
	if (s->pid == 0)
		worker_main(p, self);
	if (s->pid > 0) {
		setpgid(s->pid, s->pid);
		return 0;
	}
	log_line(LOG_ERROR, "fork_failed", "a worker cannot be started: %s", strerror(errno));
	s->pid = 0;
	s->start_at_ms = now_ms() + BACKOFF_MAX_MS;
	return -1;
}

/* What a dead worker means for its slot. */
static void slot_ended(struct parent *p, struct slot *s, const siginfo_t *info)
{
	int64_t now = now_ms(), delay = 0;
	bool exited = info->si_code == CLD_EXITED;

	s->pid = 0;
	if (exited && info->si_status == 0 && p->deadline_ms) {
		s->done = true;
		return;
	}
	if (exited && info->si_status == EXIT_START && p->ready < p->settings.workers) {
		log_line(LOG_ERROR, "start_failed", "a worker's start function refused");
		p->broken = true;
		return;
	}
	if (!exited || info->si_status != EXIT_CANCELLED) {
		if (now - s->started_ms >= CALM_MS)
			s->crashes = 0;
		if (s->crashes)
			delay = s->crashes > 6 ? BACKOFF_MAX_MS : BACKOFF_MS << (s->crashes - 1);
		s->crashes++;
		log_line(LOG_ERROR, "worker_lost", "worker %d ended by %s %d; the next in %d ms",
			 (int)info->si_pid, exited ? "exit code" : "signal", info->si_status,
			 (int)delay);
	}
	s->start_at_ms = now + delay;
}

static struct slot *slot_of(struct parent *p, pid_t pid)
{
	for (long i = 0; i < p->settings.workers; i++)
		if (p->slots[i].pid == pid)
			return &p->slots[i];
	return NULL;
}

/* Buries all that have died, workers and (as process 1) orphans. What a worker's handler had
 * started goes with it: before the worker is buried, while its process group cannot be another's.
 */
static void reap(struct parent *p)
{
	siginfo_t info = {0};

	while (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid) {
		struct slot *s = slot_of(p, info.si_pid);

		if (s)
			kill(-info.si_pid, SIGKILL);
		waitpid(info.si_pid, NULL, 0);
		if (s)
			slot_ended(p, s, &info);
		info = (siginfo_t){0};
	}
}

static int open_listener(const struct settings *s)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	memcpy(address.sun_path, s->socket_path, sizeof address.sun_path);
	unlink(s->ready_path);
	unlink(s->socket_path);
	if (fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0 &&
	    (s->chmod < 0 || chmod(s->socket_path, (mode_t)s->chmod) == 0) &&
	    listen(fd, SOMAXCONN) == 0)
		return fd;
	log_line(LOG_ERROR, "listen_failed", "cannot listen on '%s': %s", s->socket_path,
		 strerror(errno));
	return close_fd(fd);
}

/* Written aside and renamed, so that nobody reads half of it. */
static void announce(struct parent *p)
{
	char aside[PATH_MAX + 8];
	FILE *f;

	snprintf(aside, sizeof aside, "%s.new", p->settings.ready_path);
	f = fopen(aside, "we");
	if (f)
		fprintf(f, "protocol 2\nworkers %ld\nahead %d\n", p->settings.workers, AHEAD);
	if (!f || fclose(f) || rename(aside, p->settings.ready_path)) {
		log_line(LOG_ERROR, "ready_failed", "cannot write '%s': %s", p->settings.ready_path,
			 strerror(errno));
		p->broken = true;
		return;
	}
	log_line(LOG_INFO, "ready", "%ld workers listen on %s", p->settings.workers,
		 p->settings.socket_path);
}

static void count_ready(struct parent *p)
{
	char bytes[64];
	ssize_t n = read(p->ready_out, bytes, sizeof bytes);
	bool before = p->ready >= p->settings.workers;

	if (n > 0)
		p->ready += n;
	if (!before && p->ready >= p->settings.workers)
		announce(p);
}

static void stop(struct parent *p)
{
	if (p->deadline_ms)
		return;
	log_line(LOG_INFO, "stopping",
		 "serving on until the connections are closed, at most %ld ms",
		 p->settings.grace_ms);
	p->deadline_ms = now_ms() + p->settings.grace_ms;
	if (write(p->stop_in, "", 1) != 1)
		p->broken = true;
}

static void read_signals(struct parent *p)
{
	struct signalfd_siginfo info;

	while (read(p->signals, &info, sizeof info) == (ssize_t)sizeof info)
		if (info.ssi_signo != SIGCHLD)
			stop(p);
	reap(p);
}

/* Starts the workers that are due. Returns when to look again, -1: at an event only; *left is how
 * many slots are not done. */
static int64_t start_due(struct parent *p, long *left)
{
	int64_t now = now_ms(), next = p->deadline_ms ? p->deadline_ms : -1;

	*left = 0;
	for (long i = 0; i < p->settings.workers; i++) {
		struct slot *s = &p->slots[i];

		*left += !s->done;
		if (s->done || s->pid)
			continue;
		if (s->start_at_ms <= now && slot_start(p, s) == 0)
			continue;
		if (next < 0 || s->start_at_ms < next)
			next = s->start_at_ms;
	}
	return next;
}

static void supervise(struct parent *p)
{
	struct pollfd fds[] = {{.fd = p->signals, .events = POLLIN},
			       {.fd = p->ready_out, .events = POLLIN}};

	while (!p->broken) {
		int64_t now, next;
		long left;

		next = start_due(p, &left);
		now = now_ms();
		if (left == 0 || (p->deadline_ms && now >= p->deadline_ms))
			break;
		if (poll(fds, 2, next < 0 ? -1 : next <= now ? 0 : (int)(next - now)) <= 0)
			continue;
		if (fds[1].revents & POLLIN)
			count_ready(p);
		if (fds[0].revents)
			read_signals(p);
	}
}

/* Ends what is left of the workers, by force. */
static void end_workers(struct parent *p)
{
	long killed = 0;

	for (long i = 0; i < p->settings.workers; i++)
		if (p->slots[i].pid > 0) {
			kill(-p->slots[i].pid, SIGKILL);
			waitpid(p->slots[i].pid, NULL, 0);
			killed++;
		}
	if (killed)
		log_line(LOG_WARNING, "killed", "%ld workers were still at work", killed);
}

static int parent_open(struct parent *p)
{
	int stop[2] = {-1, -1}, ready[2] = {-1, -1};
	sigset_t set;

	p->slots = calloc((size_t)p->settings.workers, sizeof *p->slots);
	p->listener = p->slots ? open_listener(&p->settings) : -1;
	if (p->listener < 0)
		return -1;
	signal(SIGCHLD, SIG_DFL);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, &p->signals_before);
	p->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (p->signals < 0 || pipe2(stop, O_CLOEXEC) || pipe2(ready, O_CLOEXEC))
		log_line(LOG_ERROR, "no_descriptors", "cannot start: %s", strerror(errno));
	p->stop_out = stop[0];
	p->stop_in = stop[1];
	p->ready_out = ready[0];
	p->ready_in = ready[1];
	return p->ready_in < 0 ? -1 : 0;
}

static void parent_close(struct parent *p)
{
	if (p->listener >= 0) {
		unlink(p->settings.ready_path);
		unlink(p->settings.socket_path);
	}
	if (p->signals >= 0)
		sigprocmask(SIG_SETMASK, &p->signals_before, NULL);
	close_fd(p->listener);
	close_fd(p->signals);
	close_fd(p->stop_out);
	close_fd(p->stop_in);
	close_fd(p->ready_out);
	close_fd(p->ready_in);
	free(p->slots);
}

int asya_serve_actor(const struct asya_actor *actor)
{
	struct parent p = {.actor = actor,
			   .listener = -1,
			   .signals = -1,
			   .stop_out = -1,
			   .stop_in = -1,
			   .ready_out = -1,
			   .ready_in = -1};
	int code = 1;

	if (settings_read(&p.settings))
		return 1;
	if (parent_open(&p) == 0) {
		supervise(&p);
		end_workers(&p);
		code = p.broken;
	}
	parent_close(&p);
	return code;
}

int asya_serve(asya_handle_fn *handle, void *user)
{
	return asya_serve_actor(&(struct asya_actor){.handle = handle, .user = user});
}
