/* shell.h - a shell on the console, for a guest that no monitor drives */
#pragma once

/*
 * Runs /bin/sh -l as a session of its own on the console's real tty, of the size the kernel
 * parameter ring3.size=ROWSxCOLS gives, and reaps what ends. Returns 0 when the shell ended, the
 * number of a signal of `signal_fd` other than SIGCHLD, or -errno.
 */
int shell_run(int signal_fd);

