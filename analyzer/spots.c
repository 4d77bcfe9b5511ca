/* Spots: the hot path of the reducer, in C. `spots.py` says what is counted here, and stands in where this was not built.
 * Nothing here knows what a flow means: it looks forms up by their address, and counts.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <structmember.h>

enum { TIME = 0, UUID = 1, SOURCE_PORT = 4, DESTINATION_PORT = 5, FORM = 6, FIELDS = 7 }; /* of a flow */
enum { BY_SOURCE = 1, PORT = 2, STATS = 4, PLAIN = 8, VALUES = 12 };                      /* of a spot */
#define LINE 64      /* bytes of a processor's cache line */
#define FEWEST 16    /* slots of a table; a power of two */
#define HIGHEST UINT64_MAX

/* -- A table of spots ---------------------------------------------------------------------------------------------------------- */

/* As large as a cache line: what is far away is fetched once. A form has a slot, which tells how to find the port of the server; for
 * further ports of its flows it has further slots. */
typedef struct {
    const void *form; /* its address; NULL: an empty slot */
    PyObject *spot;   /* holds on to the form */
    uint64_t ceiling; /* how the largest uuid begins that its edge may keep, as far as is known */
    int64_t first, last, count;
    int32_t port; /* NONE: nothing is counted here */
    uint32_t hours;
    bool further, by_source;
} Slot;

#define NONE (-1)

typedef struct {
    PyObject_HEAD void *memory;
    Slot *slots;
    size_t size, used;
    uint32_t *counted; /* slots with a count, in the order it came */
    size_t counts, room;
} Spots;

/* The slot of a form - of a further port, or its first - or the empty one where it belongs. */
static Slot *
find(const Spots *self, const void *form, bool further, int32_t port)
{
    static Slot nothing; /* where there are no slots yet */
    uint64_t key = (uint64_t)(uintptr_t)form >> 4;
    if (further)
        key ^= ((uint64_t)(uint32_t)port + 1) * 0xff51afd7ed558ccdULL;
    if (self->size == 0)
        return &nothing;
    for (size_t at = (size_t)(key * 0x9e3779b97f4a7c15ULL >> 32);; at++) {
        Slot *slot = &self->slots[at & (self->size - 1)];
        if (slot->form == NULL || (slot->form == form && slot->further == further && (!further || slot->port == port)))
            return slot;
    }
}

static bool
grow(Spots *self)
{
    Spots old = *self;
    size_t size = old.size ? old.size * 2 : FEWEST;
    void *memory = PyMem_RawCalloc(size + 1, sizeof(Slot));
    if (memory == NULL)
        return false;
    self->memory = memory;
    self->slots = (Slot *)(((uintptr_t)memory + LINE - 1) & ~(uintptr_t)(LINE - 1));
    self->size = size;
    for (size_t n = 0; n < old.size; n++) {
        const Slot *slot = &old.slots[n];
        if (slot->form != NULL)
            *find(self, slot->form, slot->further, slot->port) = *slot;
    }
    for (size_t n = 0; n < old.counts; n++) {
        const Slot *slot = &old.slots[old.counted[n]];
        self->counted[n] = (uint32_t)(find(self, slot->form, slot->further, slot->port) - self->slots);
    }
    PyMem_RawFree(old.memory);
    return true;
}

/* -- One flow ------------------------------------------------------------------------------------------------------------------ */

/* How a text begins, as a number: a text with a larger one is a larger text. False if that cannot be told. */
static bool
beginning(PyObject *text, uint64_t *number)
{
    uint8_t bytes[8] = {0};
    if (!PyUnicode_CheckExact(text) || !PyUnicode_IS_COMPACT_ASCII(text))
        return false;
    Py_ssize_t size = PyUnicode_GET_LENGTH(text);
    memcpy(bytes, PyUnicode_1BYTE_DATA(text), size < 8 ? (size_t)size : 8);
    *number = 0;
    for (int n = 0; n < 8; n++)
        *number = *number << 8 | bytes[n];
    return true;
}

/* Whether the edge of a slot may keep a uuid: 1 or 0, or -1 with an exception set. Others with the same edge lower its ceiling, too,
 * which is therefore asked for where the one known here does not settle it. Asking may run Python, after which the slot may be
 * elsewhere, or gone. */
static int
is_sample(const Spots *self, Slot **slot, PyObject *uuid)
{
    uint64_t begins;
    const Slot key = **slot;
    if (!PyUnicode_CheckExact(uuid))
        return 1;
    if (PyUnicode_GET_LENGTH(uuid) == 0 || (beginning(uuid, &begins) && begins > key.ceiling))
        return 0;
    PyObject *spot = Py_NewRef(key.spot);
    PyObject *samples = PyObject_GetAttrString(PyTuple_GET_ITEM(spot, STATS), "samples");
    PyObject *ceiling = samples == NULL ? NULL : PyObject_GetAttrString(samples, "ceiling");
    Py_XDECREF(samples);
    int found = -1;
    if (ceiling != NULL) {
        *slot = find(self, key.form, key.further, key.port);
        found = (*slot)->spot != spot || !PyUnicode_CheckExact(ceiling) || PyUnicode_Compare(uuid, ceiling) < 0;
        if ((*slot)->spot == spot && !beginning(ceiling, &(*slot)->ceiling))
            (*slot)->ceiling = HIGHEST;
    }
    Py_XDECREF(ceiling);
    Py_DECREF(spot);
    return found;
}

/* Whether a number is there that fits; nothing else than a plain int does. */
static bool
number(PyObject *object, long long *value)
{
    int overflow = 1;
    if (!PyLong_CheckExact(object))
        return false;
    *value = PyLong_AsLongLongAndOverflow(object, &overflow);
    return !overflow;
}

static bool
note_counted(Spots *self, const Slot *slot)
{
    if (self->counts == self->room) {
        size_t room = self->room ? self->room * 2 : FEWEST;
        uint32_t *more = PyMem_RawRealloc(self->counted, room * sizeof(*more));
        if (more == NULL)
            return false;
        self->counted = more;
        self->room = room;
    }
    self->counted[self->counts++] = (uint32_t)(slot - self->slots);
    return true;
}

/* Count a flow: 1 if that was done, 0 if it is for Python, which then finds everything as it was, or -1 with an exception set. */
static int
count(Spots *self, PyObject *flow, long long since, long long until, uint32_t hour)
{
    long long time, port;
    const void *form = PyTuple_GET_ITEM(flow, FORM);
    Slot *slot = find(self, form, false, NONE);
    if (slot->form == NULL || !number(PyTuple_GET_ITEM(flow, TIME), &time) || time < since || time >= until ||
        !number(PyTuple_GET_ITEM(flow, slot->by_source ? SOURCE_PORT : DESTINATION_PORT), &port) || port < 0 ||
        port > INT32_MAX)
        return 0;
    if (port != slot->port)
        slot = find(self, form, true, (int32_t)port);
    if (slot->form == NULL)
        return 0;
    int sample = is_sample(self, &slot, PyTuple_GET_ITEM(flow, UUID));
    if (sample)
        return sample < 0 ? -1 : 0;
    if (slot->count == 0) {
        if (!note_counted(self, slot))
            return PyErr_NoMemory(), -1;
        slot->first = slot->last = time;
        slot->hours = 0;
    }
    slot->count++;
    slot->hours |= hour;
    if (time > slot->last)
        slot->last = time;
    else if (time < slot->first)
        slot->first = time;
    return 1;
}

/* -- Spots, as Python sees them ------------------------------------------------------------------------------------------------ */

static PyObject *
spots_get(PyObject *object, PyObject *id)
{
    const void *form = PyLong_AsVoidPtr(id);
    if (form == NULL && PyErr_Occurred())
        return NULL;
    const Slot *slot = find((Spots *)object, form, false, NONE);
    return Py_NewRef(slot->form == NULL ? Py_None : slot->spot);
}

static int
spots_set(PyObject *object, PyObject *id, PyObject *spot)
{
    Spots *self = (Spots *)object;
    long long port;
    const void *form = PyLong_AsVoidPtr(id);
    if (form == NULL && PyErr_Occurred())
        return -1;
    if (spot == NULL || !PyTuple_CheckExact(spot) || PyTuple_GET_SIZE(spot) != VALUES || PyTuple_GET_ITEM(spot, 0) != form)
        return PyErr_Format(PyExc_TypeError, "a spot has %d values, and its form comes first", VALUES), -1;
    if (PyTuple_GET_ITEM(spot, PLAIN) != Py_True || !number(PyTuple_GET_ITEM(spot, PORT), &port) || port < 0 || port > INT32_MAX)
        port = NONE;
    bool by_source = PyTuple_GET_ITEM(spot, BY_SOURCE) == Py_True;
    const Slot *first = find(self, form, false, NONE);
    bool further = first->form != NULL && first->port != port;
    if (further && (port == NONE || first->by_source != by_source))
        return 0; /* flows of this form are told apart by another port than this one */
    Slot *slot = find(self, form, further, (int32_t)port);
    if (slot->form != NULL)
        return 0;
    if (self->used + self->used / 2 >= self->size) {
        if (!grow(self))
            return PyErr_NoMemory(), -1;
        slot = find(self, form, further, (int32_t)port);
    }
    self->used++;
    *slot = (Slot){
        .form = form, .spot = Py_NewRef(spot), .ceiling = HIGHEST, .port = (int32_t)port, .further = further,
        .by_source = by_source,
    };
    return 0;
}

static Py_ssize_t
spots_length(PyObject *object)
{
    return (Py_ssize_t)((Spots *)object)->used;
}

/* Take what was counted since the last time. Where memory runs out, nothing more can be expected of the counts. */
static PyObject *
spots_take(PyObject *object, PyObject *Py_UNUSED(ignored))
{
    Spots *self = (Spots *)object;
    PyObject *taken = PyList_New((Py_ssize_t)self->counts);
    for (size_t n = 0; taken != NULL && n < self->counts; n++) {
        const Slot *slot = &self->slots[self->counted[n]];
        PyObject *made = Py_BuildValue("OLLLI", slot->spot, (long long)slot->count, (long long)slot->first,
                                       (long long)slot->last, (unsigned int)slot->hours);
        if (made == NULL)
            Py_CLEAR(taken);
        else
            PyList_SET_ITEM(taken, (Py_ssize_t)n, made);
    }
    for (size_t n = 0; n < self->counts; n++)
        self->slots[self->counted[n]].count = 0;
    self->counts = 0;
    return taken;
}

static void
release(Spots *self)
{
    Spots old = *self;
    self->memory = self->slots = NULL;
    self->size = self->used = 0;
    for (size_t n = 0; n < old.size; n++)
        Py_XDECREF(old.slots[n].spot);
    PyMem_RawFree(old.memory);
}

static PyObject *
spots_clear(PyObject *object, PyObject *Py_UNUSED(ignored))
{
    if (((Spots *)object)->counts)
        return PyErr_Format(PyExc_ValueError, "what was counted is still to be taken"), NULL;
    release((Spots *)object);
    Py_RETURN_NONE;
}

static PyObject *
spots_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    if (PyTuple_GET_SIZE(args) || keywords != NULL)
        return PyErr_Format(PyExc_TypeError, "Spots takes no arguments"), NULL;
    return type->tp_alloc(type, 0);
}

static void
spots_dealloc(PyObject *object)
{
    Spots *self = (Spots *)object;
    PyTypeObject *type = Py_TYPE(object);
    release(self);
    PyMem_RawFree(self->counted);
    type->tp_free(object);
    Py_DECREF(type);
}

static PyMethodDef spots_methods[] = {
    {"get", spots_get, METH_O, "The spot of the form with this id, or None."},
    {"take", spots_take, METH_NOARGS, "What was counted since the last time: spot, flows, first and last time, hours."},
    {"clear", spots_clear, METH_NOARGS, "Forget all spots. What was counted must have been taken."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot spots_slots[] = {
    {Py_tp_doc, "Where flows of a form count, by its id, and how many did."},
    {Py_tp_new, spots_new},
    {Py_tp_dealloc, spots_dealloc},
    {Py_tp_methods, spots_methods},
    {Py_mp_length, spots_length},
    {Py_mp_ass_subscript, spots_set},
    {0, NULL},
};

static PyType_Spec spots_spec = {"analyzer._spots.Spots", sizeof(Spots), 0, Py_TPFLAGS_DEFAULT, spots_slots};

/* -- Rest, as Python sees it --------------------------------------------------------------------------------------------------- */

typedef struct {
    PyTypeObject *spots;
} State;

typedef struct {
    PyObject_HEAD PyTypeObject *flow;
    PyObject *records; /* an iterator */
    Spots *spots;      /* NULL: nothing is counted yet */
    Py_ssize_t counted;
    long long since, until;
    uint32_t hour;
} Rest;

static PyObject *
rest_next(PyObject *object)
{
    Rest *self = (Rest *)object;
    PyObject *record;
    while ((record = PyIter_Next(self->records)) != NULL) {
        int counted = 0;
        if (self->spots != NULL && Py_IS_TYPE(record, self->flow) && PyTuple_GET_SIZE(record) == FIELDS)
            counted = count(self->spots, record, self->since, self->until, self->hour);
        if (counted == 0)
            return record;
        Py_DECREF(record);
        if (counted < 0)
            return NULL;
        self->counted++;
    }
    return NULL;
}

/* The nearest number that fits. */
static int
nearest(PyObject *object, void *value)
{
    int overflow;
    long long found = PyLong_AsLongLongAndOverflow(object, &overflow);
    if (found == -1 && !overflow && PyErr_Occurred())
        return 0;
    *(long long *)value = overflow > 0 ? LLONG_MAX : overflow < 0 ? LLONG_MIN : found;
    return 1;
}

static PyObject *
rest_at(PyObject *object, PyObject *args)
{
    Rest *self = (Rest *)object;
    State *state = PyType_GetModuleState(Py_TYPE(object));
    PyObject *spots;
    long long since, until;
    unsigned int hour;
    if (state == NULL || !PyArg_ParseTuple(args, "O!O&O&I", state->spots, &spots, nearest, &since, nearest, &until, &hour))
        return NULL;
    self->since = since;
    self->until = until;
    self->hour = hour;
    Py_XSETREF(self->spots, (Spots *)Py_NewRef(spots));
    Py_RETURN_NONE;
}

static PyObject *
rest_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"flow", "records", NULL};
    PyObject *flow, *records;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O!O", names, &PyType_Type, &flow, &records))
        return NULL;
    if (!PyType_IsSubtype((PyTypeObject *)flow, &PyTuple_Type))
        return PyErr_Format(PyExc_TypeError, "flows are tuples"), NULL;
    Rest *self = (Rest *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->flow = (PyTypeObject *)Py_NewRef(flow);
    self->records = PyObject_GetIter(records);
    if (self->records == NULL) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static void
rest_dealloc(PyObject *object)
{
    Rest *self = (Rest *)object;
    PyTypeObject *type = Py_TYPE(object);
    Py_XDECREF(self->flow);
    Py_XDECREF(self->records);
    Py_XDECREF(self->spots);
    type->tp_free(object);
    Py_DECREF(type);
}

static PyMethodDef rest_methods[] = {
    {"at", rest_at, METH_VARARGS, "Count from now on at these spots flows from since until before until, which set the hour's bit."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef rest_members[] = {
    {"counted", T_PYSSIZET, offsetof(Rest, counted), READONLY, "Flows counted so far."},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot rest_slots[] = {
    {Py_tp_doc, "Those of some records that are not counted at spots. Takes the type of flows, and the records."},
    {Py_tp_new, rest_new},
    {Py_tp_dealloc, rest_dealloc},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, rest_next},
    {Py_tp_methods, rest_methods},
    {Py_tp_members, rest_members},
    {0, NULL},
};

static PyType_Spec rest_spec = {"analyzer._spots.Rest", sizeof(Rest), 0, Py_TPFLAGS_DEFAULT, rest_slots};

/* -- The module ---------------------------------------------------------------------------------------------------------------- */

static int
module_exec(PyObject *module)
{
    State *state = PyModule_GetState(module);
    state->spots = (PyTypeObject *)PyType_FromModuleAndSpec(module, &spots_spec, NULL);
    if (state->spots == NULL || PyModule_AddObjectRef(module, "Spots", (PyObject *)state->spots) < 0)
        return -1;
    PyObject *rest = PyType_FromModuleAndSpec(module, &rest_spec, NULL);
    int failed = rest == NULL || PyModule_AddObjectRef(module, "Rest", rest) < 0;
    Py_XDECREF(rest);
    return failed ? -1 : 0;
}

static int
module_traverse(PyObject *module, visitproc visit, void *arg)
{
    Py_VISIT(((State *)PyModule_GetState(module))->spots);
    return 0;
}

static int
module_clear(PyObject *module)
{
    Py_CLEAR(((State *)PyModule_GetState(module))->spots);
    return 0;
}

static void
module_free(void *module)
{
    module_clear(module);
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, module_exec}, {0, NULL}};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_spots", "Spots, in C.", sizeof(State), NULL, module_slots, module_traverse, module_clear, module_free,
};

PyMODINIT_FUNC
PyInit__spots(void)
{
    return PyModuleDef_Init(&module);
}
