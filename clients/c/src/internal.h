/* What liblossd's files share. Each struct is touched by its own file's functions, with the exceptions that
 * stand beside the fields. Errors travel as lossd_code with a lossd_error that may be NULL. */
#ifndef LOSSD_INTERNAL_H
#define LOSSD_INTERNAL_H

#define _GNU_SOURCE /* eventfd, SOCK_CLOEXEC, ppoll */

#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "lossd.h"
#include "lossd.pb-c.h"

#define SOFTWARE "lossd-c/" LOSSD_VERSION

/* ---- Limits of this library ---- */

#define MESSAGE_MAX (4u << 20)      /* bytes of a message that the daemon may send */
#define PAYLOAD_MAX 0xFFFFFFFFu     /* bytes: the length field of a frame */
#define READ_BUFFER (64u << 10)     /* bytes read with one call, beside what goes to its place directly */
#define PING_MAX 64u                /* bytes, docs/protocol.md */
#define ALIGNMENT 64u               /* of tensors in a payload */
#define CONNECTIONS_MAX 8u          /* of a client: one, and those that are being drained */
#define FLIGHTS_MAX 512u            /* calls under way on a connection; a power of two */
#define SHARED_INPUTS_MAX 64u       /* inputs of a call that may lie in shared memory */
#define RESULTS_MAX 64u             /* tensors in a response */
#define OUTPUT_HIGH (256u << 10)    /* bytes queued for a connection beyond which calls wait with the client */
#define OUTPUT_EAGER (64u << 10)    /* bytes queued beyond which `submit` writes */
#define CONTROL_MAX (1u << 20)      /* bytes of answers to PING that a daemon may leave unread */
#define ARENA_MAX (64u << 20)       /* bytes that decoding one message may take */
#define SHARED_MIN (256u << 10)     /* bytes of inputs from which on they lie in shared memory */
#define SEGMENTS_MAX 200u           /* of shared memory; a daemon makes 256 for a connection */
#define DESCRIPTORS_MAX 8u          /* that may come before the frames that they belong to */
#define SEGMENT_BYTES_MAX ((size_t)1 << 30) /* of all segments */
#define SEGMENT_IDLE_MAX ((size_t)256 << 20) /* of those that nobody uses */
#define RETRY_PAUSE_US 100000u      /* between two attempts to reach a daemon that is being restarted */
#define DEADLINE_GRACE_US 20000u    /* how much longer than its timeout a call waits for the daemon's own word */
#define CONNECT_TIMEOUT_US 10000000u
#define NEVER UINT64_MAX

/* What every server takes before its HELLO has come. */
#define EARLY_STREAMS 8u
#define EARLY_CREDIT 1u
#define EARLY_MESSAGE (64u << 10)
#define EARLY_PAYLOAD (1u << 20)

enum frame_type {
  FRAME_HELLO = 1, FRAME_OPEN, FRAME_MESSAGE, FRAME_STATUS, FRAME_CANCEL, FRAME_CREDIT, FRAME_PING, FRAME_GOAWAY,
  FRAME_REGION, FRAME_RELEASE
};
enum { FLAG_END_STREAM = 1, FLAG_ACK = 2 };
#define FRAME_HEADER 16u

struct frame {
  uint32_t payload_length;
  uint32_t message_length;
  uint32_t stream;
  uint8_t type;
  uint8_t flags;
};

/* ---- error.c ---- */

lossd_code fail(lossd_error *error, lossd_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
lossd_code succeed(lossd_error *error);
/* What does not fit is cut between two characters. */
void write_text(char *text, size_t size, const char *format, va_list arguments);
uint64_t now_us(void);
/* Saturating; 0, which is no timeout, gives NEVER. */
uint64_t deadline_after(uint64_t timeout_us);

/* ---- memory.c: bytes that grow, and the memory that decoding takes ---- */

struct bytes {
  unsigned char *base;
  size_t length;
  size_t capacity;
};

/* Makes room for `more` bytes; 0 without memory. */
int bytes_reserve(struct bytes *bytes, size_t more);
void bytes_free(struct bytes *bytes);
/* An array of `count` with room for one more: grown by half where it is full; NULL without memory. */
void *grown(void *array, size_t count, size_t *capacity, size_t element);

/* Memory for one message at a time: reset, then decode. It keeps one block and says no beyond ARENA_MAX. */
struct arena {
  ProtobufCAllocator allocator;
  unsigned char *block;
  size_t used;
  size_t capacity;
  struct arena_extra *extra; /* what did not fit into the block */
  size_t extra_bytes;
};

void arena_init(struct arena *arena);
void arena_reset(struct arena *arena);
void arena_free(struct arena *arena);
void *arena_take(struct arena *arena, size_t size);

/* ---- output.c: what is to be written: our own bytes, and tensors where they lie ---- */

struct output_item {
  const unsigned char *base; /* NULL: of `bytes`; &output_zeros: zeros, however many */
  size_t length;
  const void *owner; /* of borrowed memory */
};

struct output {
  struct bytes bytes;
  size_t taken; /* of `bytes`, already written */
  struct output_item *items;
  size_t first;
  size_t count;
  size_t capacity;
  size_t pending;    /* bytes of all items */
  uint64_t written;  /* bytes since the beginning */
};

void output_init(struct output *output);
void output_free(struct output *output);
/* After it, appending so many bytes and items cannot fail. */
int output_reserve(struct output *output, size_t bytes, size_t items);
/* The next `count` bytes of our own, to be filled in; they have been reserved. */
unsigned char *output_append(struct output *output, size_t count);
void output_borrow(struct output *output, const void *base, size_t length, const void *owner);
/* The owner's memory, queued up to the mark `until` (`written` plus `pending` of then), is not touched any more:
 * zeros go in its place, since a frame has to be whole. */
void output_abandon(struct output *output, const void *owner, uint64_t until);
/* What comes next. */
size_t output_vectors(const struct output *output, struct iovec *vectors, size_t max);
void output_advance(struct output *output, size_t written);

/* ---- reader.c: bytes in, frames out; no socket ---- */

/* A part of the payload and where it goes; NULL: nowhere. */
struct place {
  unsigned char *to;
  size_t length;
};

struct connection;

struct reader {
  unsigned char *buffer;
  size_t capacity;
  size_t begin;
  size_t end;
  enum { READ_HEADER, READ_MESSAGE, READ_PAYLOAD } phase;
  struct frame frame;
  int has_hello;
  uint32_t payload_max;
  /* Filled in by whoever takes the message; in order, and exactly the payload's length together. */
  struct place places[2 * RESULTS_MAX + 1];
  size_t place_count;
  size_t place;
  const void *owner; /* whose memory the places are */
};

int reader_init(struct reader *reader);
void reader_free(struct reader *reader);
/* Where the next bytes may be read to: at most `max` vectors, two or more; 0 without memory. */
size_t reader_vectors(struct reader *reader, struct iovec *vectors, size_t max);
/* So many bytes have been read there. Not OK, with a text: the daemon broke the protocol. */
lossd_code reader_advance(struct reader *reader, struct connection *connection, size_t count, lossd_error *error);
/* The whole payload goes nowhere. */
void reader_discard(struct reader *reader);
/* The owner's memory is not touched any more. */
void reader_abandon(struct reader *reader, const void *owner);

/* ---- call.c: what is asked, and what came ---- */

struct input {
  char *name;
  lossd_type type;
  size_t rank;
  int64_t *shape;
  const void *data;
  size_t bytes;
};

/* ---- shared.c: memory that the daemon maps too ---- */

enum segment_state {
  SEGMENT_ASKED, /* the daemon has not answered yet */
  SEGMENT_THERE,
  SEGMENT_GONE   /* ordinary memory, or none: it was refused, or its connection has ended */
};

/* A region of one connection; where it is GONE and has memory, that is ordinary. */
struct segment {
  struct segment *next;
  uint64_t number;               /* the region's */
  struct connection *connection; /* NULL: it has ended */
  enum segment_state state;
  int descriptor;  /* -1: none */
  int is_mapped;   /* else `base` is of malloc */
  unsigned char *base;
  size_t size;
  int has_result;  /* that the user may look at */
  int is_lost;     /* what lay there when its connection ended could not be kept */
  unsigned uses; /* by calls that the daemon has not ended */
  enum { SEGMENT_IDLE, SEGMENT_CALLS, SEGMENT_USERS, SEGMENT_LEFT } owner;
  int is_tainted; /* the daemon may be at it though nobody uses it: it is not used again */
};

/* What one request that is under way uses. */
struct uses {
  struct segment **list;
  size_t count;
  size_t capacity;
};

/* A segment for a call's own, there or asked for; NULL: none to be had. */
struct segment *segment_take(struct connection *connection, size_t size);
/* Its owner has no more use for it: idle again once the daemon has not either. */
void segment_leave(lossd_client *client, struct segment *segment);
/* The user's memory of a connection, of any where that is NULL, that the address lies in; NULL: it is other memory. */
struct segment *segment_find(const lossd_client *client, const struct connection *connection, const void *address,
                             size_t bytes);
/* Where an address in it is in its region. */
uint64_t segment_offset(const struct segment *segment, const void *address);
/* Whether what lay at the address was lost with its connection. */
int segment_is_lost(const lossd_client *client, const void *address);
extern const char segment_lost[];
void segments_free(lossd_client *client);
/* The daemon's answer to REGION. */
lossd_code region_answered(struct connection *connection, uint64_t number, int is_made, lossd_error *error);
/* How many answers to REGION are to come. */
size_t segments_asked(const struct connection *connection);
/* The connection has ended, or is about to: what the user has in its segments becomes ordinary memory. */
void segments_end(struct connection *connection);
int uses_add(struct uses *uses, struct segment *segment);
/* They are `to`'s from here on. Without memory they are never used again. */
void uses_move(struct uses *to, struct uses *from);
void uses_free(struct uses *uses);
/* `is_safe`: the daemon has said that it touches them no more. */
void uses_end(lossd_client *client, struct uses *uses, int is_safe);

struct attribute {
  char *name;
  Lossd__V1__Value value; /* its string is ours */
};

struct result {
  char *name;
  int is_asked;   /* by lossd_call_output; else it came by itself */
  int is_present; /* with the last answer */
  void *given;
  size_t given_bytes;
  void *owned;
  size_t owned_bytes;
  struct segment *segment; /* where the daemon is asked to write it, or has */
  size_t into;             /* the offset there */
  size_t into_bytes;       /* 0: it comes in the payload */
  int64_t shape[LOSSD_RANK_MAX];
  lossd_tensor tensor;
};

/* ---- notes.c: what a call's setters could not set ---- */

enum note_kind { NOTE_INPUT, NOTE_ATTRIBUTE, NOTE_OUTPUT, NOTE_TIMEOUT };

struct note {
  enum note_kind kind;
  char *name; /* of the thing that was to be set; NULL: the caller gave none */
  lossd_code code;
  const char *what; /* a constant */
};

struct notes {
  struct note *items; /* in the order in which they came */
  size_t count;
  size_t capacity;
  int is_short; /* there was no memory for one */
};

/* In the place of the note on the same thing, if there is one. `what` is a constant. */
void notes_add(struct notes *notes, enum note_kind kind, const char *name, lossd_code code, const char *what);
/* The thing has been set right. */
void notes_remove(struct notes *notes, enum note_kind kind, const char *name);
/* OK, or the first note. One that nothing can put right is dropped, since it has been told now. */
lossd_code notes_check(struct notes *notes, lossd_error *error);
void notes_free(struct notes *notes);

enum call_state { CALL_IDLE, CALL_PENDING, CALL_SENT, CALL_IN_STREAM, CALL_DONE };

struct lossd_call {
  lossd_client *client;
  lossd_call *next; /* in the client's list of pending ones; client.c's */
  lossd_call *previous;
  const char *method;
  char *function; /* NULL: a batch */
  char *listed;   /* ListFunctions: of which; `function` is NULL then */
  struct input *inputs;
  size_t input_count;
  size_t input_capacity;
  struct attribute *attributes;
  size_t attribute_count;
  size_t attribute_capacity;
  struct result *results;
  size_t result_count;
  size_t result_capacity;
  uint64_t timeout_us;
  struct notes notes; /* of setters that failed */

  /* encode.c's: the message of the request, kept while nothing in it changes. */
  struct bytes message;
  int is_encoded;
  uint64_t payload_length;
  uint64_t input_bytes;

  /* placement.c's: the same request with its tensors in shared memory. */
  struct bytes shared_message;
  int is_shared;            /* the request that is under way is that one */
  int has_no_into;          /* a result had another size than was thought */
  struct segment *segment;  /* copies of inputs */
  struct uses uses;

  /* client.c's and stream.c's */
  enum call_state state;
  int is_cancelled;      /* the daemon has been asked to stop */
  lossd_stream *stream;  /* whose batch it is, CALL_IN_STREAM */
  struct connection *connection;
  uint32_t id;
  uint64_t queued_until; /* the mark of its output's end, see output_abandon */
  uint64_t deadline;     /* now_us's clock */
  lossd_error outcome;
  struct bytes answer; /* ListFunctions: the message that came */
};

void call_destroy(lossd_call *call);
/* Its memory, queued for its connection or being read to, is touched no more. */
void call_detach(lossd_call *call);
/* Ends it, wherever it is; its memory is the caller's again. */
void call_finish(lossd_call *call, lossd_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Whether it is somewhere between submit and its end. */
int call_is_under_way(const lossd_call *call);
/* OK, or why it cannot be sent: under way already, or a setter that failed. */
lossd_code call_check(lossd_call *call, lossd_error *error);
struct input *call_find_input(const lossd_call *call, const char *name);
struct result *call_find_result(const lossd_call *call, const char *name);
/* The result of that name, made where it is not there; NULL without memory. */
struct result *call_make_result(lossd_call *call, const char *name);
void call_forget_results(lossd_call *call);

/* ---- encode.c ---- */

/* Makes `message`, `payload_length` and `input_bytes` current. */
lossd_code call_encode(lossd_call *call, lossd_error *error);
/* Where an input lies in shared memory. */
struct place_in {
  uint64_t region;
  uint64_t offset;
};
/* Makes `shared_message`: `places` has one for each input, results go where they are asked to. */
int call_encode_shared(lossd_call *call, const struct place_in *places);
void put_header(unsigned char *to, const struct frame *frame);
/* Queues frames; 0 without memory, and nothing is queued. */
int put_preface(struct output *output, uint64_t payload_max, int has_shared_memory);
int put_open(struct output *output, uint32_t stream, const char *method, uint64_t timeout_us);
int put_region(struct output *output, uint8_t type, uint64_t number, uint64_t length);
int put_control(struct output *output, uint32_t stream, uint8_t type, uint8_t flags, const void *message,
                size_t length);
/* MESSAGE with the call's request, and its tensors where those are not shared; `batch`: its id, else UINT64_MAX. */
int put_request(struct output *output, uint32_t stream, lossd_call *call, uint64_t batch, int is_last);

/* ---- response.c ---- */

/* Says where the payload of a decoded response goes and fills in the call's results; not OK when the answer
 * cannot be taken: `reader` then discards the payload. */
lossd_code response_place(lossd_call *call, const Lossd__V1__EvaluateResponse *response, struct reader *reader,
                          lossd_error *error);
/* Whether every result that `asked` (the call itself, or its stream's head) asks for has come. */
lossd_code response_check(const lossd_call *call, const lossd_call *asked, lossd_error *error);

/* ---- connection.c ---- */

enum flight_kind { FLIGHT_NONE, FLIGHT_CALL, FLIGHT_STREAM, FLIGHT_ABANDONED };

/* A stream of the protocol that is open; its place is the id modulo FLIGHTS_MAX. */
struct flight {
  uint32_t id;
  enum flight_kind kind;
  void *owner;      /* lossd_call or lossd_stream */
  struct uses uses; /* of who has left it */
};

struct connection {
  struct connection *next; /* client.c's */
  lossd_client *client;
  int descriptor;
  int is_closed;
  int is_draining;       /* the server's GOAWAY with code 0 */
  int cannot_write;      /* it reads no more; what it said last is still to be read */
  int has_hello;
  uint64_t hello_deadline;
  uint32_t message_max;  /* the server's limits */
  uint64_t payload_max;
  uint32_t streams_max;
  uint32_t stream_credit;
  uint32_t next_id;
  uint32_t highest_id;
  struct flight flights[FLIGHTS_MAX];
  size_t flight_count;
  uint64_t pings_sent;
  uint64_t pings_answered;
  int has_shared_memory;
  int descriptors[DESCRIPTORS_MAX]; /* that have come before their frames; -1: one was lost */
  size_t descriptor_count;
  size_t region_refused; /* bytes from which on the daemon wants none; 0: it has refused nothing */
  struct reader reader;
  struct output output;
};

struct connection *connection_new(lossd_client *client, int descriptor);
void connection_free(struct connection *connection);
/* Ends every call on it with this. */
void connection_close(struct connection *connection, lossd_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The call of that id that is under way; NULL: there is none. */
struct flight *flight_of(struct connection *connection, uint32_t id);
void end_flight(struct connection *connection, struct flight *flight);
/* How a call ended without its results, `flight` being a copy of one that has been ended. */
void end_owner(struct flight *flight, lossd_code code, const char *text, int never_began);
int connection_takes_calls(const struct connection *connection);
/* An id and a place for a call; 0 when there is none now. */
uint32_t connection_open_flight(struct connection *connection, enum flight_kind kind, void *owner);
/* One that the daemon has not heard of: its id is left out. */
void connection_drop_flight(struct connection *connection, uint32_t id);
/* Whether the daemon takes such a request: 1, 0: not before its HELLO has come, -1: never. */
int connection_fits(const struct connection *connection, const lossd_call *call, lossd_error *error);
/* The daemon is told to stop; `abandon`: and nobody waits for it any more. Shared memory that the call uses stays in
 * use until the daemon has ended it. */
void connection_cancel(struct connection *connection, uint32_t id, const void *owner, int abandon);
void connection_flush(struct connection *connection);
void connection_read(struct connection *connection);
/* A descriptor has come, which is the connection's from here on; -1: one was lost. 0 where nobody asked for one. */
int connection_give_descriptor(struct connection *connection, int descriptor);
/* The oldest, which is the caller's from here on; -1: none. */
int connection_next_descriptor(struct connection *connection);
/* ---- frames.c ---- */

/* reader.c's: a whole message has come; it sets the places of a payload. */
lossd_code connection_take(struct connection *connection, const struct frame *frame, const unsigned char *message,
                           lossd_error *error);
/* reader.c's: the payload of the frame, if it has one, has come. */
void connection_payload_ended(struct connection *connection, const struct frame *frame);

/* ---- placement.c: which tensors of a call lie in shared memory ---- */

enum placement { PLACED_IN_PAYLOAD, PLACED_SHARED, PLACED_LATER };

/* Copies the call's big inputs to shared memory and says what its request is to be; LATER: the daemon has not said
 * yet whether it takes the memory. */
enum placement place_call(struct connection *connection, lossd_call *call, int has_results);

/* ---- address.c ---- */

struct address {
  char *path; /* Unix; else */
  char *host;
  char *port;
  char *text;
};

lossd_code address_parse(const char *text, struct address *address, lossd_error *error);
void address_free(struct address *address);
/* A connected descriptor; -1: it failed, or `interrupt` became readable. */
int address_connect(const struct address *address, uint64_t until, int interrupt, lossd_error *error);

/* ---- client.c and pending.c ---- */

struct lossd_client {
  size_t references; /* calls and streams have one each */
  int is_freed;
  int interrupt; /* eventfd */
  pid_t process;
  volatile int *mark; /* a page that a child finds empty; NULL: there is none, and `process` is compared */
  struct address address;
  uint64_t connect_timeout_us;
  uint64_t payload_max;
  struct connection *current; /* takes new calls; one of `connections` */
  struct connection *connections;
  lossd_call *pending; /* not sent yet, in order */
  lossd_call *pending_last;
  size_t pending_count;
  lossd_stream *streams;
  int wants_connection; /* a ping does */
  struct segment *segments;
  size_t segment_count;
  size_t segment_bytes;
  uint64_t next_segment;
  int has_lost; /* some segment is */
  size_t shared_min;
  uint64_t finished;    /* counts calls and batches that ended: who waits looks again */
  lossd_error refusal;  /* why connecting failed last */
  uint64_t retry_at;    /* no attempt to connect before that */
  uint64_t retry_until; /* a daemon that has drained is waited for until then; 0: it has not */
  struct arena arena;
};

/* Whether this is a child of who made the connections. */
int client_has_forked(const lossd_client *client);
/* In a child: the connections, and what was under way or waited for one, are the parent's. */
void client_check_fork(lossd_client *client);
volatile int *client_make_mark(void);
int client_wants_connection(const lossd_client *client);
/* Connects where that may be tried now; what waits for it fails where it cannot be. */
void client_connect(lossd_client *client);
void client_retain(lossd_client *client);
void client_release(lossd_client *client);
void client_enqueue(lossd_client *client, lossd_call *call);
void client_requeue(lossd_client *client, lossd_call *call); /* it never began */
void client_dequeue(lossd_client *client, lossd_call *call);
/* The daemon goes: whatever never began there waits for the next one. */
void client_drained(lossd_client *client);
/* A connection ended before the daemon's first word: what waits for it fails, or waits for the next one. */
void client_refused(lossd_client *client, const lossd_error *error);
/* Writes, waits until something happens or `until`, reads. CANCELLED: interrupted. */
lossd_code client_step(lossd_client *client, uint64_t until);
/* Moves what is pending to the connection; connects where that is necessary. */
void client_feed(lossd_client *client);
/* Reads what has come and writes what is queued, without waiting. */
void client_turn(lossd_client *client);
/* Writes what is queued, without waiting. */
void client_flush(lossd_client *client);
/* The earlier of the two, for waiting. */
uint64_t earlier(uint64_t left, uint64_t right);

/* ---- stream.c and leg.c ---- */

struct batch {
  lossd_call *call;
  uint64_t number;
  int is_sent;
};

/* How a function's sums make its loss, as the function declares it. */
enum reduction {
  REDUCTION_UNKNOWN, /* it declares nothing: a plugin may merge its sums in a way of its own */
  REDUCTION_OTHER,   /* there is no loss of the whole data set */
  REDUCTION_MEAN,    /* loss_sum over weight_sum */
  REDUCTION_SUM      /* loss_sum */
};

struct sums {
  int is_there;
  uint64_t batches;
  uint64_t rows;
  int has_loss;
  double loss;
  double loss_sum;
  double weight_sum;
};

struct lossd_stream {
  lossd_client *client;
  lossd_stream *next; /* in the client's list */
  lossd_call *head;   /* function, attributes, outputs, and inputs that stay */
  char **kept;        /* names of inputs that may stay */
  size_t kept_count;
  enum reduction reduction;
  uint64_t deadline;
  /* The call of EvaluateStream under way; there are several, one after another, when daemons come and go. */
  struct connection *connection;
  uint32_t id;
  uint32_t credit;
  int is_credit_early; /* HELLO had not come when it was opened */
  int is_head_sent;
  int is_half_closed;
  uint64_t answered_here;
  enum { ARRIVES_NOTHING, ARRIVES_BATCH, ARRIVES_END } arriving; /* whose frame's payload is still to come */
  unsigned fruitless; /* such calls in a row that answered no batch */
  /* Batches that `next` has not given back: answered ones, then the others. */
  struct batch *batches;
  size_t batch_count;
  size_t batch_capacity;
  size_t answered;
  uint64_t next_number;
  int is_finishing;
  struct sums carried; /* of daemons that are gone */
  struct sums part;    /* of this one */
  int is_complete;
  lossd_error failure;
};

/* Whether it waits for a connection. */
int stream_wants_connection(const lossd_stream *stream);
/* Sends what can be sent. */
void stream_feed(lossd_stream *stream, struct connection *connection);
void stream_hello(lossd_stream *stream, const struct connection *connection);
void stream_credit(lossd_stream *stream, uint32_t count);
lossd_code stream_take(lossd_stream *stream, const Lossd__V1__EvaluateResponse *response, int is_last,
                       struct reader *reader, lossd_error *error);
/* The call of EvaluateStream has ended with an error: the stream goes on elsewhere, or ends. `never_began`: the
 * daemon said so. */
void stream_ended(lossd_stream *stream, lossd_code code, const char *text, int never_began);
void stream_fail(lossd_stream *stream, lossd_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* A batch is being freed: one that has no answer yet ends the stream. */
void stream_forget(lossd_stream *stream, lossd_call *call);
/* All that its requests under way use is `uses` from here on. */
void stream_move_uses(lossd_stream *stream, struct uses *uses);
/* A response and its payload have come. */
void stream_payload_ended(lossd_stream *stream);
/* Leaves its connection; batches without an answer are to be sent again. */
void stream_leave(lossd_stream *stream);
void sums_read(struct sums *sums, const Lossd__V1__Summary *summary);
/* Adds the sums of a part, those of different daemons. Of a function whose reduction is not known, two parts have
 * counts alone: no number is better than a wrong one. */
void sums_carry(struct sums *carried, const struct sums *part, enum reduction reduction);

/* ---- functions.c: ListFunctions, as far as streams need it ---- */

/* Names of the inputs of `first`'s function that stay in a stream, and how its sums make its loss; NOT_FOUND when
 * there is no such function. */
lossd_code functions_describe(const lossd_call *first, char ***names, size_t *count, enum reduction *reduction,
                              lossd_error *error);

#endif
