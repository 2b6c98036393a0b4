// SPDX-License-Identifier: Apache-2.0
/* What asya-sidecar says about itself: --help, --man, --version, and docs/settings.md. */
#include "sidecar/sidecar.h"

#include "base/mem.h"

#include <stdio.h>

#define WHAT                                                                                       \
	"Takes messages from the queue of one actor, hands each to the handler behind the "        \
	"runtime's\nsocket, and sends what comes back to the next queue of the message's route, "  \
	"durable there\nbefore the message is acked."
#define DRAIN                                                                                      \
	"SIGTERM and SIGINT drain: handlers finish within ASYA_GRACE_PERIOD, the rest is given "   \
	"back.\n"

struct style {
	const char *word;
	const char *head, *before_transport, *after_transport, *tail;
	void (*rows)(struct asya_buf *out, const struct asya_setting *rows, size_t n);
};

static const struct style styles[] = {
	{"--help",
	 "usage: asya-sidecar [--help | --version | --man]\n\n" WHAT
	 " Configured by variables:\n\n",
	 "\nTransport ", ":\n\n", "\n" DRAIN, asya_config_help_write},
	{"--man",
	 ".TH ASYA\\-SIDECAR 1 \"\" \"asya " ASYA_VERSION "\"\n"
	 ".SH NAME\nasya\\-sidecar \\- between the queue of an actor and its handler\n"
	 ".SH SYNOPSIS\n.B asya\\-sidecar\n[\\-\\-help | \\-\\-version | \\-\\-man]\n"
	 ".SH DESCRIPTION\n" WHAT "\n.PP\n" DRAIN ".SH ENVIRONMENT\n",
	 ".SS Transport ", "\n",
	 ".SH EXIT STATUS\n0 drained; 2 the configuration is wrong; 1 it cannot go on.\n"
	 ".SH SEE ALSO\n.BR asya (1)\n",
	 asya_config_man_write},
	{"--markdown",
	 "<!-- SPDX-License-Identifier: Apache-2.0 -->\n"
	 "<!-- Made by `make docs` of the tables in src/; change these. -->\n"
	 "# Settings\n\n`asya-sidecar` is configured by variables of its environment. A value that "
	 "is not as it should be\nis an error at start that names the variable. The tables of "
	 "transports are for `asya`, too.\n\n## asya-sidecar\n\n",
	 "\n## Transport ", "\n\n", "", asya_config_markdown_write},
};

static void write_whole(struct asya_buf *b, const struct style *style)
{
	const struct asya_transport_ops *ops;

	asya_buf_c(b, style->head);
	style->rows(b, sidecar_settings, sidecar_n_settings);
	for (size_t i = 0; (ops = asya_transport_at(i)); i++) {
		if (!ops->n_settings)
			continue;
		asya_buf_printf(b, "%s%s%s", style->before_transport, ops->name,
				style->after_transport);
		style->rows(b, ops->settings, ops->n_settings);
	}
	asya_buf_c(b, style->tail);
}

bool usage_print(const char *word)
{
	struct asya_buf b = {0};

	if (strcmp(word, "--version") == 0) {
		printf("asya-sidecar %s\n", ASYA_VERSION);
		return true;
	}
	if (strcmp(word, "-h") == 0)
		word = "--help";
	for (size_t i = 0; i < ASYA_ARRAY_SIZE(styles); i++) {
		if (strcmp(styles[i].word, word) != 0)
			continue;
		write_whole(&b, &styles[i]);
		fwrite(b.p, 1, b.n, stdout);
		asya_buf_fini(&b);
		return true;
	}
	return false;
}
