// SPDX-License-Identifier: Apache-2.0
/* Well-known mistakes in an actor's pod template. The API server has the last word on pods, and
 * knows more fields than we do: what is found here are warnings, but for the containers' names. */
#pragma once
#include "core/finding.h"

/* `spec` is the pod's spec and stands at `path`. `processing_s` is the timeout of one call. */
void asya_pod_check(struct asya_findings *f, const struct asya_tree *spec, struct asya_str path,
		    int64_t processing_s);
