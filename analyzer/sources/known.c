/* Lines met before: the hot path of reading files, in C. `known.py` does the same in Python, says why it may be done, and stands in
 * where this was not built. Nothing here reads JSON: bytes are cut at fixed marks, compared and copied.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define SLOTS 131072 /* kept lines; a power of two */
#define WAYS 4      /* places where a line may be kept */
#define LONGEST 4096 /* bytes of a line that may be kept: what its flow takes of the memory is bounded with it */
#define SECONDS 64  /* whole seconds remembered */
#define SECOND 19   /* characters of a time up to the second */
#define LONGEST_UUID 64
#define NANO 1000000000LL
#define FIELDS 7 /* of a flow: time, uuid, source_ip, destination_ip, source_port, destination_port, form */

/* -- Cutting a line ------------------------------------------------------------------------------------------------------------ */

typedef struct {
    const char *data;
    Py_ssize_t size;
} Span;

/* What differs from line to line (time, uuid, ports), and the two stretches of bytes that do not. */
typedef struct {
    Span time, uuid, before, after;
    bool has_ports;
    long source_port, destination_port;
} Cut;

#define LITERAL(text) (text), (Py_ssize_t)(sizeof(text) - 1)

static bool
starts(const char *at, const char *end, const char *text, Py_ssize_t size)
{
    return end - at >= size && memcmp(at, text, (size_t)size) == 0;
}

static const char *
find(Span span, const char *text, Py_ssize_t size)
{
    return memmem(span.data, (size_t)span.size, text, (size_t)size);
}

static bool
is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* A port as JSON writes it, from 1 on; what follows it, or NULL. */
static const char *
port(const char *at, const char *end, long *value)
{
    const char *start = at;
    long number = 0;
    if (at < end && *at == '0')
        return NULL;
    while (at < end && at - start < 5 && is_digit(*at))
        number = number * 10 + (*at++ - '0');
    *value = number;
    return at > start && at < end && !is_digit(*at) && number <= 65535 ? at : NULL;
}

/* Cut the ports of TCP and UDP out of what comes after the uuid. */
static void
cut_ports(Cut *cut)
{
    Span rest = cut->after;
    const char *end = rest.data + rest.size, *at = find(rest, LITERAL("\"l4\":{"));
    const char *source, *destination;
    cut->has_ports = false;
    cut->before = rest;
    cut->after = (Span){end, 0};
    if (at == NULL)
        return;
    at += sizeof("\"l4\":{") - 1;
    if (!starts(at, end, LITERAL("\"TCP\":{")) && !starts(at, end, LITERAL("\"UDP\":{")))
        return;
    at += sizeof("\"TCP\":{") - 1;
    if (!starts(at, end, LITERAL("\"source_port\":")))
        return;
    source = at + sizeof("\"source_port\":") - 1;
    at = port(source, end, &cut->source_port);
    if (at == NULL || !starts(at, end, LITERAL(",\"destination_port\":")))
        return;
    destination = at + sizeof(",\"destination_port\":") - 1;
    at = port(destination, end, &cut->destination_port);
    if (at == NULL || (*at != ',' && *at != '}'))
        return;
    cut->has_ports = true;
    cut->before = (Span){rest.data, source - rest.data};
    cut->after = (Span){at, end - at};
}

/* Whether a time begins here as `2026-09-01T00:00:00` does. */
static bool
is_second(const char *at)
{
    static const char form[] = "dddd-dd-ddTdd:dd:dd";
    for (int n = 0; n < SECOND; n++)
        if (form[n] == 'd' ? !is_digit(at[n]) : at[n] != form[n])
            return false;
    return true;
}

/* Whether a line is one that can be cut. */
static bool
cut_line(const char *line, const char *end, Cut *cut)
{
    const char *at = line, *tail;
    if (end - line > LONGEST || !starts(at, end, LITERAL("{\"flow\":{\"time\":\"")))
        return false;
    at += sizeof("{\"flow\":{\"time\":\"") - 1;
    cut->time.data = at;
    if (end - at <= SECOND || !is_second(at))
        return false;
    at += SECOND;
    if (*at == '.') {
        const char *fraction = ++at;
        while (at < end && at - fraction < 9 && is_digit(*at))
            at++;
        if (at == fraction)
            return false;
    }
    if (!starts(at, end, LITERAL("Z\",\"uuid\":\"")))
        return false;
    cut->time.size = at + 1 - cut->time.data;
    at += sizeof("Z\",\"uuid\":\"") - 1;
    cut->uuid.data = at;
    while (at < end && at - cut->uuid.data < LONGEST_UUID && (Py_ISALNUM(*at) || *at == '-'))
        at++;
    cut->uuid.size = at - cut->uuid.data;
    if (cut->uuid.size == 0 || at == end || *at != '"')
        return false;
    /* The envelope's time is the flow's. */
    tail = end - (cut->time.size + (Py_ssize_t)sizeof("\"time\":\"\"}") - 1);
    if (tail < at || !starts(tail, end, LITERAL("\"time\":\"")) || !starts(end - 2, end, LITERAL("\"}")) ||
        memcmp(tail + sizeof("\"time\":\"") - 1, cut->time.data, (size_t)cut->time.size) != 0)
        return false;
    cut->after = (Span){at, tail - at};
    cut_ports(cut);
    return true;
}

/* -- Telling lines apart ------------------------------------------------------------------------------------------------------- */

/* NH, the universal hash of UMAC (Black, Halevi, Krawczyk, Krovetz, Rogaway 1999): two different texts of one size have the same value
 * one time in 2^64, for a secret key, and the same two values, of keys shifted by two words (Toeplitz), one time in 2^128, whatever
 * whoever wrote the lines intended. */
#define BLOCK 16 /* bytes that a step takes */
#define KEY ((LONGEST / BLOCK + 3) * BLOCK / 8) /* words: two stretches that end within a block, and the second key's shift */

typedef unsigned __int128 Wide;

typedef struct {
    Wide first, second;
    uint16_t before, after; /* sizes */
} Hash;

static const uint64_t *
add_block(const uint64_t *key, Hash *hash, const char *block)
{
    uint64_t words[2];
    memcpy(words, block, BLOCK);
    hash->first += (Wide)(words[0] + key[0]) * (words[1] + key[1]);
    hash->second += (Wide)(words[0] + key[2]) * (words[1] + key[3]);
    return key + 2;
}

static const uint64_t *
add(const uint64_t *key, Hash *hash, Span span)
{
    const char *at = span.data, *end = span.data + span.size;
    for (; end - at >= BLOCK; at += BLOCK)
        key = add_block(key, hash, at);
    if (at < end) {
        char last[BLOCK] = {0};
        memcpy(last, at, (size_t)(end - at));
        key = add_block(key, hash, last);
    }
    return key;
}

static Hash
hash_of(const uint64_t *key, const Cut *cut)
{
    Hash hash = {0, 0, (uint16_t)cut->before.size, (uint16_t)cut->after.size};
    add(add(key, &hash, cut->before), &hash, cut->after);
    return hash;
}

/* Hashes of lines that are numbered are spaced evenly, so they are scattered before places are found by them. */
static uint64_t
scattered(const Hash *hash)
{
    uint64_t mixed = (uint64_t)hash->first ^ (uint64_t)(hash->first >> 64) * 0x9e3779b97f4a7c15ULL;
    mixed = (mixed ^ (mixed >> 33)) * 0xff51afd7ed558ccdULL;
    mixed = (mixed ^ (mixed >> 33)) * 0xc4ceb9fe1a85ec53ULL;
    return mixed ^ (mixed >> 33);
}

/* -- What is kept -------------------------------------------------------------------------------------------------------------- */

/* As large as a cache line of most processors. */
typedef struct {
    Wide first, second; /* of the hash */
    uint16_t before, after : 15, hit : 1;   /* found again since it was kept, or since its neighbours all were */
    uint16_t source_port, destination_port; /* of lines whose ports were not cut out */
    PyObject *source_ip, *destination_ip, *form; /* all NULL: an empty slot */
} Slot;

typedef struct {
    char text[SECOND];
    int64_t nanoseconds;
    bool valid;
} Second;

typedef struct {
    PyObject_HEAD PyTypeObject *flow;
    PyObject *parse;
    void *memory;
    uint64_t key[KEY];
    Second seconds[SECONDS];
    Slot *slots;
    uint32_t *seen; /* marks of lines for which there was no room when they came first */
} Known;

static Slot *
bucket(Known *self, const Hash *hash)
{
    return self->slots + (scattered(hash) % (SLOTS / WAYS)) * WAYS;
}

/* Whether a line was noted before; it is from now on. Few come again of those that come when there is no room any more. */
static bool
noted(Known *self, const Hash *hash)
{
    uint64_t mixed = scattered(hash);
    uint32_t *mark = &self->seen[(mixed >> 16) % SLOTS];
    bool before = *mark == (uint32_t)(mixed >> 32);
    *mark = (uint32_t)(mixed >> 32);
    return before;
}

static bool
is_of(const Slot *slot, const Hash *hash)
{
    return slot->form != NULL && slot->first == hash->first && slot->second == hash->second &&
           slot->before == hash->before && slot->after == hash->after;
}

static Slot *
lookup(Known *self, const Hash *hash)
{
    Slot *slots = bucket(self, hash);
    for (int n = 0; n < WAYS; n++)
        if (is_of(&slots[n], hash))
            return &slots[n];
    return NULL;
}

/* The slot for what is met now: an empty one, or any that was not found again since all beside it had been. */
static Slot *
vacant(Known *self, const Hash *hash)
{
    Slot *slots = bucket(self, hash);
    for (int n = 0; n < WAYS; n++)
        if (slots[n].form == NULL)
            return &slots[n];
    unsigned first = (unsigned)hash->second;
    for (unsigned n = 0; n < WAYS; n++)
        if (!slots[(first + n) % WAYS].hit)
            return &slots[(first + n) % WAYS];
    for (int n = 0; n < WAYS; n++)
        slots[n].hit = false;
    return &slots[first % WAYS];
}

static void
empty(Slot *slot)
{
    Py_CLEAR(slot->source_ip);
    Py_CLEAR(slot->destination_ip);
    Py_CLEAR(slot->form);
}

/* Nanoseconds since the epoch, or -1 if it is no time that can be told here, or -2 with an exception set. */
static int64_t
time_of(Known *self, Span time)
{
    Second *known = &self->seconds[((time.data[17] - '0') * 10 + (time.data[18] - '0')) & (SECONDS - 1)];
    int64_t nanoseconds = 0;
    if (!known->valid || memcmp(known->text, time.data, SECOND) != 0) {
        PyObject *told = PyObject_CallFunction(self->parse, "s#", time.data, (Py_ssize_t)SECOND);
        if (told == NULL)
            return -2;
        known->valid = false;
        known->nanoseconds = PyLong_AsLongLong(told);
        Py_DECREF(told);
        if (known->nanoseconds == -1 && PyErr_Occurred())
            return -2;
        memcpy(known->text, time.data, SECOND);
        known->valid = true;
    }
    /* The last second there is has no end; it and the one before are left to the decoders. */
    if (known->nanoseconds < 0 || known->nanoseconds > INT64_MAX - 2 * NANO)
        return -1;
    if (time.data[SECOND] == '.') {
        int64_t unit = NANO / 10;
        for (const char *at = time.data + SECOND + 1; at < time.data + time.size - 1; at++, unit /= 10)
            nanoseconds += (*at - '0') * unit;
    }
    return known->nanoseconds + nanoseconds;
}

static PyObject *
flow_of(Known *self, const Cut *cut, int64_t time, const Slot *slot)
{
    PyObject *flow = self->flow->tp_alloc(self->flow, FIELDS);
    if (flow == NULL)
        return NULL;
#if PY_VERSION_HEX >= 0x030E0000
    ((PyTupleObject *)flow)->ob_hash = -1; /* not worked out yet */
#endif
    PyTuple_SET_ITEM(flow, 0, PyLong_FromLongLong(time));
    PyTuple_SET_ITEM(flow, 1, PyUnicode_DecodeASCII(cut->uuid.data, cut->uuid.size, NULL));
    PyTuple_SET_ITEM(flow, 2, Py_NewRef(slot->source_ip));
    PyTuple_SET_ITEM(flow, 3, Py_NewRef(slot->destination_ip));
    PyTuple_SET_ITEM(flow, 4, PyLong_FromLong(cut->has_ports ? cut->source_port : slot->source_port));
    PyTuple_SET_ITEM(flow, 5, PyLong_FromLong(cut->has_ports ? cut->destination_port : slot->destination_port));
    PyTuple_SET_ITEM(flow, 6, Py_NewRef(slot->form));
    for (int n = 0; n < FIELDS; n++)
        if (PyTuple_GET_ITEM(flow, n) == NULL) {
            Py_DECREF(flow);
            return NULL;
        }
    return flow;
}

/* The flow of a line, None if the line is not known, or NULL with an exception set. */
static PyObject *
read_line(Known *self, const char *line, const char *end)
{
    Cut cut;
    if (!cut_line(line, end, &cut))
        Py_RETURN_NONE;
    /* The time first: telling it may run Python, which may change the slots. */
    int64_t time = time_of(self, cut.time);
    if (time == -2)
        return NULL;
    Slot *slot = NULL;
    if (time != -1) {
        Hash hash = hash_of(self->key, &cut);
        slot = lookup(self, &hash);
    }
    if (slot == NULL)
        Py_RETURN_NONE;
    slot->hit = true;
    return flow_of(self, &cut, time, slot);
}

/* -- What Python sees ---------------------------------------------------------------------------------------------------------- */

static int
append_number(PyObject *list, Py_ssize_t number)
{
    PyObject *made = PyLong_FromSsize_t(number);
    int failed = made == NULL || PyList_Append(list, made) < 0;
    Py_XDECREF(made);
    return failed;
}

static PyObject *
known_read(PyObject *object, PyObject *data)
{
    Known *self = (Known *)object;
    if (!PyBytes_Check(data))
        return PyErr_Format(PyExc_TypeError, "bytes are read, not %.100s", Py_TYPE(data)->tp_name), NULL;
    const char *start = PyBytes_AS_STRING(data), *line = start, *stop = start + PyBytes_GET_SIZE(data), *end;
    PyObject *records = PyList_New(0), *unknown = PyList_New(0), *made = NULL;
    if (records == NULL || unknown == NULL)
        goto failed;
    for (; line < stop; line = end + 1) {
        end = memchr(line, '\n', (size_t)(stop - line));
        if (end == NULL)
            end = stop;
        made = read_line(self, line, end);
        if (made == NULL || PyList_Append(records, made) < 0)
            goto failed;
        if (made == Py_None && (append_number(unknown, line - start) || append_number(unknown, end - start)))
            goto failed;
        Py_CLEAR(made);
    }
    return Py_BuildValue("NN", records, unknown);
failed:
    Py_XDECREF(made);
    Py_XDECREF(records);
    Py_XDECREF(unknown);
    return NULL;
}

/* Whether what was cut out of a line is, in every line that is cut like it, what its flow says: see known.py. */
static bool
is_proper(Span line, const Cut *cut)
{
    int time = 0, uuid = 0, source = 0, destination = 0, other = 0;
    const char *at = line.data, *end = line.data + line.size;
    if (memchr(at, '\\', (size_t)line.size) != NULL)
        return false;
    for (; (at = memchr(at, '"', (size_t)(end - at))) != NULL; at++) {
        time += starts(at, end, LITERAL("\"time\""));
        uuid += starts(at, end, LITERAL("\"uuid\""));
        source += starts(at, end, LITERAL("\"source_port\""));
        destination += starts(at, end, LITERAL("\"destination_port\""));
        other += starts(at, end, LITERAL("\"ICMP")) || (at - line.data >= 4 && memcmp(at - 4, "Port", 4) == 0);
    }
    return time == 2 && uuid == 1 && (!cut->has_ports || (source == 1 && destination == 1 && other == 0));
}

/* Whether the numbers and the uuid of a flow are those that were cut out; -1 with an exception set. */
static int
is_said(Known *self, const Cut *cut, PyObject *flow)
{
    int64_t time = time_of(self, cut->time);
    if (time == -2)
        return -1;
    long long told = PyLong_AsLongLong(PyTuple_GET_ITEM(flow, 0));
    long source = PyLong_AsLong(PyTuple_GET_ITEM(flow, 4)), destination = PyLong_AsLong(PyTuple_GET_ITEM(flow, 5));
    if (PyErr_Occurred())
        return -1;
    Py_ssize_t size;
    const char *uuid = PyUnicode_AsUTF8AndSize(PyTuple_GET_ITEM(flow, 1), &size);
    if (uuid == NULL)
        return -1;
    return time == told && source == (uint16_t)source && destination == (uint16_t)destination &&
           size == cut->uuid.size && memcmp(uuid, cut->uuid.data, (size_t)size) == 0 &&
           (!cut->has_ports || (source == cut->source_port && destination == cut->destination_port));
}

static PyObject *
known_keep(PyObject *object, PyObject *args)
{
    Known *self = (Known *)object;
    Span line;
    PyObject *flow;
    Cut cut;
    if (!PyArg_ParseTuple(args, "y#O!", &line.data, &line.size, self->flow, &flow))
        return NULL;
    if (PyTuple_GET_SIZE(flow) != FIELDS)
        return PyErr_Format(PyExc_TypeError, "a flow has %d fields", FIELDS), NULL;
    if (!cut_line(line.data, line.data + line.size, &cut))
        Py_RETURN_FALSE;
    int said = is_said(self, &cut, flow);
    if (said < 0)
        return NULL;
    if (!said)
        Py_RETURN_FALSE;
    Hash hash = hash_of(self->key, &cut);
    Slot *slot = lookup(self, &hash);
    if (slot == NULL) {
        slot = vacant(self, &hash);
        if (slot->form != NULL && !noted(self, &hash))
            Py_RETURN_FALSE;
    }
    if (!is_proper(line, &cut))
        Py_RETURN_FALSE;
    empty(slot);
    *slot = (Slot){
        .first = hash.first, .second = hash.second, .before = hash.before, .after = hash.after & 0x7fff,
        .source_port = (uint16_t)PyLong_AsLong(PyTuple_GET_ITEM(flow, 4)),
        .destination_port = (uint16_t)PyLong_AsLong(PyTuple_GET_ITEM(flow, 5)),
    };
    slot->source_ip = Py_NewRef(PyTuple_GET_ITEM(flow, 2));
    slot->destination_ip = Py_NewRef(PyTuple_GET_ITEM(flow, 3));
    slot->form = Py_NewRef(PyTuple_GET_ITEM(flow, 6));
    /* Lines are many, and addresses few. */
    if (PyUnicode_CheckExact(slot->source_ip) && PyUnicode_CheckExact(slot->destination_ip)) {
        PyUnicode_InternInPlace(&slot->source_ip);
        PyUnicode_InternInPlace(&slot->destination_ip);
    }
    Py_RETURN_TRUE;
}

static PyObject *
known_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"flow", "parse", "secret", NULL};
    PyObject *flow, *parse;
    const char *secret;
    Py_ssize_t size;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O!Oy#", names, &PyType_Type, &flow, &parse, &secret, &size))
        return NULL;
    if (!PyType_IsSubtype((PyTypeObject *)flow, &PyTuple_Type) || size != KEY * 8)
        return PyErr_Format(PyExc_ValueError, "a type of tuples and %d bytes are needed", KEY * 8), NULL;
    Known *self = (Known *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->flow = (PyTypeObject *)Py_NewRef(flow);
    self->parse = Py_NewRef(parse);
    memcpy(self->key, secret, sizeof(self->key));
    self->memory = PyMem_RawCalloc(SLOTS + 1, sizeof(Slot));
    self->slots = (Slot *)(((uintptr_t)self->memory + sizeof(Slot) - 1) / sizeof(Slot) * sizeof(Slot));
    self->seen = PyMem_RawCalloc(SLOTS, sizeof(*self->seen));
    if (self->memory == NULL || self->seen == NULL) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    return (PyObject *)self;
}

static void
known_dealloc(PyObject *object)
{
    Known *self = (Known *)object;
    PyTypeObject *type = Py_TYPE(object);
    for (Py_ssize_t n = 0; self->memory != NULL && n < SLOTS; n++)
        empty(&self->slots[n]);
    PyMem_RawFree(self->memory);
    PyMem_RawFree(self->seen);
    Py_XDECREF(self->flow);
    Py_XDECREF(self->parse);
    type->tp_free(object);
    Py_DECREF(type);
}

static PyMethodDef known_methods[] = {
    {"read", known_read, METH_O, "The flow of each line, None where it is not known; and where those begin and end."},
    {"keep", known_keep, METH_VARARGS, "Know a line from now on by its flow; whether that can be."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot known_slots[] = {
    {Py_tp_doc, "Lines met before. Takes the type of flows, what parses a time up to its second, and SECRET secret bytes."},
    {Py_tp_new, known_new},
    {Py_tp_dealloc, known_dealloc},
    {Py_tp_methods, known_methods},
    {0, NULL},
};

static PyType_Spec known_spec = {"analyzer.sources._known.Known", sizeof(Known), 0, Py_TPFLAGS_DEFAULT, known_slots};

static int
module_exec(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &known_spec, NULL);
    int failed = type == NULL || PyModule_AddObjectRef(module, "Known", type) < 0 ||
                 PyModule_AddIntConstant(module, "SECRET", KEY * 8) < 0;
    Py_XDECREF(type);
    return failed ? -1 : 0;
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, module_exec}, {0, NULL}};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_known", "Lines met before, in C.", 0, NULL, module_slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC
PyInit__known(void)
{
    return PyModuleDef_Init(&module);
}
