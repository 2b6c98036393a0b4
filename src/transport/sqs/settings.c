// SPDX-License-Identifier: Apache-2.0
#include "transport/sqs/settings.h"

#define ROW(kind, member) ASYA_SETTING(kind, struct sqs_settings, member)

const struct asya_setting sqs_settings[SQS_SETTINGS] = {
	{"ASYA_SQS_ENDPOINT", ROW(STRING, endpoint),
	 .help = "URL of the service; unset: Amazon SQS of ASYA_AWS_REGION. Credentials are found "
		 "where the AWS SDKs find them: AWS_ACCESS_KEY_ID, profile files, web identity, "
		 "pod identity, the instance."},
	{"ASYA_AWS_REGION", ROW(STRING, region), .fallback = "us-east-1",
	 .help = "Region of the queues."},
	{"ASYA_NAMESPACE", ROW(STRING, space),
	 .help = "Keeps queues of the same actor name in several namespaces apart."},
	{"ASYA_QUEUE_AUTO_CREATE", ROW(BOOL, auto_create), .fallback = "true",
	 .help = "Make queues that are missing, and their dead letters."},
	{"ASYA_SQS_FIFO", ROW(BOOL, fifo), .fallback = "false",
	 .help = "Use FIFO queues: in order within the header tenant, or else within one id."},
	{"ASYA_SQS_FAIR", ROW(BOOL, fair), .fallback = "false",
	 .help = "Standard queues: send the tenant as MessageGroupId, so that SQS is fair among "
		 "tenants."},
	{"ASYA_SQS_VISIBILITY_TIMEOUT", ROW(DURATION, visibility_ms), .fallback = "30s",
	 .min = 1000, .max = 43200000,
	 .help = "Lease of a message that was taken. It is extended at a third of this for as long "
		 "as the process lives, to 12 hours in all, so handlers may take longer."},
	{"ASYA_SQS_WAIT_TIME_SECONDS", ROW(INT, wait_s), .fallback = "20", .max = 20,
	 .help = "How long a request waits for messages at an empty queue. An idle sidecar takes "
		 "as "
		 "long to stop: a request that is cut short may hide a message until its lease "
		 "ends."},
	{"ASYA_AWS_CA_FILE", ROW(STRING, ca_file),
	 .help = "PEM file of those who may sign the endpoint's certificate; unset: the system's."},
	{"ASYA_MODULE_DIR", ROW(STRING, modules),
	 .help = "Directory of asya-aws.so; unset: beside the program, then where it was "
		 "installed."},
};
