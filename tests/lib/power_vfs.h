// SPDX-License-Identifier: Apache-2.0
/*
 * A SQLite VFS for tests, over the default one: it knows what of each file has been synced, and can
 * write out what a disk would hold after a power cut; it can also run out of room, and fail.
 *
 * The disk it stands for keeps a write once the file was synced, and a new, or no longer existing,
 * name once the directory was, which SQLite's own VFS does with the first sync of a new log or
 * journal. Nothing is really synced. -shm files are not kept: SQLite makes them anew.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

/* Registers it and forgets everything of before. Returns its name. No file may be open in it. */
const char *power_vfs_start(void);
void power_vfs_end(void);

/* Into the directory dir_to: what is left of the files of dir_from. With seed 0 only what was
 * synced; else each sector of 512 bytes of each unsynced write, and each unsynced name, is kept or
 * lost at random, sectors also in part. */
void power_vfs_cut(const char *dir_from, const char *dir_to, unsigned seed);

/* `fn` is called before every sync and every write, on the thread that does it. */
void power_vfs_watch(void (*fn)(void *user, bool sync), void *user);

/* PRAGMA synchronous then does nothing, so what a connection was set to before stays. */
void power_vfs_ignore_synchronous(bool on);

/* The files together may have so many bytes more than now: then SQLITE_FULL. Negative: no limit. */
void power_vfs_room(int64_t bytes);
/* The nth write, sync or truncation from now on fails with this SQLite code, and every one after it
 * while `stay`. 0: none. */
void power_vfs_fail(unsigned nth, int code, bool stay);
/* How many writes, syncs and truncations there have been. */
unsigned power_vfs_calls(void);
