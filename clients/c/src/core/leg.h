/* A stream's calls of EvaluateStream, one after another. */
#ifndef LOSSD_LEG_H
#define LOSSD_LEG_H

#include "stream.h"

extern const char stream_method[];

/* Whether it waits for a connection. */
int stream_wants_connection(const lossd_stream *stream);
/* Sends what can be sent. */
void stream_feed(lossd_stream *stream, struct connection *connection);
void stream_hello(lossd_stream *stream, const struct connection *connection);
void stream_credit(lossd_stream *stream, uint32_t count);
lossd_code stream_take(lossd_stream *stream, const Lossd__V1__EvaluateResponse *response, int is_last,
                       struct reader *reader, lossd_error *error);
/* A response and its payload have come. */
void stream_payload_ended(lossd_stream *stream);
/* The call of EvaluateStream has ended with an error: the stream goes on elsewhere, or ends. `never_began`: the
 * daemon said so. */
void stream_ended(lossd_stream *stream, lossd_code code, const char *text, int never_began);
/* All that its requests under way use is `uses` from here on. */
void stream_move_uses(lossd_stream *stream, struct uses *uses);
/* Leaves its connection; batches without an answer are to be sent again. */
void stream_leave(lossd_stream *stream);

#endif
