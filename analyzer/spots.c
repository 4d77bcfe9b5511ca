/* Spots: the hot path of the reducer, in C. `spots.py` says what is counted here, and stands in where this was not built.
 * Nothing here knows what a flow means: it looks forms up by their address, and counts.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <structmember.h>

enum { TIME = 0, UUID = 1, SOURCE_PORT = 4, DESTINATION_PORT = 5, FORM = 6, FIELDS = 7 }; /* of a flow */
enum { BY_SOURCE = 1, PORT = 2, STATS = 4, PLAIN = 8, VALUES = 12 };                      /* of a spot */
#define LINE 64      /* bytes of a processor's cache line */
#define FEWEST 1024  /* slots of a table; a power of two */
#define HIGHEST UINT64_MAX

/* -- A table of spots ---------------------------------------------------------------------------------------------------------- */

/* As large as a cache line: what is far away is fetched once. */
typedef struct {
    const void *form; /* its address; NULL: an empty slot */
    PyObject *spot;   /* holds on to the form */
    uint64_t ceiling; /* how the largest uuid begins that its edge may keep, as far as is known */
    int64_t first, last, count;
    int32_t port; /* -1: nothing is counted here */
    uint32_t hours;
    bool by_source;
} Slot;

typedef struct {
    PyObject_HEAD void *memory;
    Slot *slots;
    size_t size, used;
    uint32_t *counted; /* slots with a count, in the order it came */
    size_t counts, room;
    PyObject *replaced; /* what was counted at spots whose place another took, or NULL */
} Spots;

static size_t
place_of(const Spots *self, const void *form)
{
    uint64_t mixed = ((uint64_t)(uintptr_t)form >> 4) * 0x9e3779b97f4a7c15ULL;
    return (size_t)(mixed >> 32) & (self->size - 1);
}

static bool
allocate(Spots *self, size_t size)
{
    void *memory = PyMem_RawCalloc(size + 1, sizeof(Slot));
    if (memory == NULL)
        return false;
    self->memory = memory;
    self->slots = (Slot *)(((uintptr_t)memory + LINE - 1) & ~(uintptr_t)(LINE - 1));
    self->size = size;
    return true;
}

/* The slot of a form, or the empty one where it belongs. */
static Slot *
slot_of(const Spots *self, const void *form)
{
    size_t at = place_of(self, form);
    while (self->slots[at].form != NULL && self->slots[at].form != form)
        at = (at + 1) & (self->size - 1);
    return &self->slots[at];
}

static bool
grow(Spots *self)
{
    Spots old = *self;
    if (!allocate(self, old.size * 2))
        return false;
    for (size_t n = 0; n < old.size; n++)
        if (old.slots[n].form != NULL)
            *slot_of(self, old.slots[n].form) = old.slots[n];
    for (size_t n = 0; n < old.counts; n++)
        self->counted[n] = (uint32_t)(slot_of(self, old.slots[old.counted[n]].form) - self->slots);
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

/* Whether the edge of a spot may keep a uuid: 1 or 0, or -1 with an exception set. Others with the same edge lower its ceiling, too,
 * which is therefore asked for where the one known here does not settle it. */
static int
is_sample(Spots *self, const void *form, PyObject *uuid)
{
    uint64_t begins;
    if (!PyUnicode_CheckExact(uuid))
        return 1;
    if (PyUnicode_GET_LENGTH(uuid) == 0)
        return 0;
    if (beginning(uuid, &begins) && begins > slot_of(self, form)->ceiling)
        return 0;
    PyObject *stats = Py_NewRef(PyTuple_GET_ITEM(slot_of(self, form)->spot, STATS));
    PyObject *samples = PyObject_GetAttrString(stats, "samples");
    PyObject *ceiling = samples == NULL ? NULL : PyObject_GetAttrString(samples, "ceiling");
    Py_DECREF(stats);
    Py_XDECREF(samples);
    if (ceiling == NULL)
        return -1;
    int found = !PyUnicode_CheckExact(ceiling) || PyUnicode_Compare(uuid, ceiling) < 0;
    /* Asking may have run Python, so that the slot may be another one now, or gone. */
    Slot *slot = slot_of(self, form);
    if (slot->form == NULL)
        found = 1;
    else if (!beginning(ceiling, &slot->ceiling))
        slot->ceiling = HIGHEST;
    Py_DECREF(ceiling);
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

/* Count a flow of an hour: 1 if that was done, 0 if it is for Python, which then finds everything as it was, or -1 with an exception. */
static int
count(Spots *self, PyObject *flow, long long since, long long until, uint32_t hour)
{
    long long time, port;
    const void *form = PyTuple_GET_ITEM(flow, FORM);
    Slot *slot = slot_of(self, form);
    if (slot->form == NULL || slot->port < 0 || !number(PyTuple_GET_ITEM(flow, TIME), &time) || time < since ||
        time >= until || !number(PyTuple_GET_ITEM(flow, slot->by_source ? SOURCE_PORT : DESTINATION_PORT), &port) ||
        port != slot->port)
        return 0;
    int sample = is_sample(self, form, PyTuple_GET_ITEM(flow, UUID));
    if (sample)
        return sample < 0 ? -1 : 0;
    slot = slot_of(self, form);
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
    const Slot *slot = form == NULL ? NULL : slot_of((Spots *)object, form);
    return Py_NewRef(slot == NULL || slot->form == NULL ? Py_None : slot->spot);
}

/* What was counted at a slot, whose count is forgotten. */
static PyObject *
taken_from(Slot *slot)
{
    PyObject *made = Py_BuildValue("OLLLI", slot->spot, (long long)slot->count, (long long)slot->first, (long long)slot->last,
                                   (unsigned int)slot->hours);
    if (made != NULL)
        slot->count = 0;
    return made;
}

/* Take what was counted since the last time. Where memory runs out, nothing more can be expected of the counts. */
static PyObject *
spots_take(PyObject *object, PyObject *Py_UNUSED(ignored))
{
    Spots *self = (Spots *)object;
    PyObject *taken = self->replaced == NULL ? PyList_New(0) : self->replaced;
    self->replaced = NULL;
    for (size_t n = 0; taken != NULL && n < self->counts; n++) {
        Slot *slot = &self->slots[self->counted[n]];
        PyObject *made = slot->count == 0 ? Py_NewRef(Py_None) : taken_from(slot);
        if (made == NULL || (made != Py_None && PyList_Append(taken, made) < 0))
            Py_CLEAR(taken);
        Py_XDECREF(made);
    }
    self->counts = 0;
    return taken;
}

/* Keep for `take` what was counted at a slot whose spot another one replaces. */
static bool
put_aside(Spots *self, Slot *slot)
{
    if (self->replaced == NULL)
        self->replaced = PyList_New(0);
    PyObject *made = self->replaced == NULL ? NULL : taken_from(slot);
    bool done = made != NULL && PyList_Append(self->replaced, made) == 0;
    Py_XDECREF(made);
    return done;
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
    Slot *slot = slot_of(self, form);
    if (slot->count && !put_aside(self, slot))
        return -1;
    if (slot->form == NULL) {
        if (self->used + self->used / 2 >= self->size) {
            if (!grow(self))
                return PyErr_NoMemory(), -1;
            slot = slot_of(self, form);
        }
        slot->form = form;
        self->used++;
    }
    bool counts = PyTuple_GET_ITEM(spot, PLAIN) == Py_True && number(PyTuple_GET_ITEM(spot, PORT), &port) && port >= 0 &&
                  port <= INT32_MAX;
    slot->port = counts ? (int32_t)port : -1;
    slot->by_source = PyTuple_GET_ITEM(spot, BY_SOURCE) == Py_True;
    slot->ceiling = HIGHEST;
    PyObject *old = slot->spot;
    slot->spot = Py_NewRef(spot);
    Py_XDECREF(old);
    return 0;
}

static Py_ssize_t
spots_length(PyObject *object)
{
    return (Py_ssize_t)((Spots *)object)->used;
}

static PyObject *
spots_clear(PyObject *object, PyObject *Py_UNUSED(ignored))
{
    Spots *self = (Spots *)object, old = *self;
    if (self->counts || self->replaced != NULL)
        return PyErr_Format(PyExc_ValueError, "what was counted is still to be taken"), NULL;
    if (!allocate(self, FEWEST))
        return PyErr_NoMemory();
    self->used = 0;
    for (size_t n = 0; n < old.size; n++)
        Py_XDECREF(old.slots[n].spot);
    PyMem_RawFree(old.memory);
    Py_RETURN_NONE;
}

static PyObject *
spots_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    if (PyTuple_GET_SIZE(args) || keywords != NULL)
        return PyErr_Format(PyExc_TypeError, "Spots takes no arguments"), NULL;
    Spots *self = (Spots *)type->tp_alloc(type, 0);
    if (self != NULL && !allocate(self, FEWEST)) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    return (PyObject *)self;
}

static void
spots_dealloc(PyObject *object)
{
    Spots *self = (Spots *)object;
    PyTypeObject *type = Py_TYPE(object);
    for (size_t n = 0; n < self->size; n++)
        Py_XDECREF(self->slots[n].spot);
    PyMem_RawFree(self->memory);
    PyMem_RawFree(self->counted);
    Py_XDECREF(self->replaced);
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

static PyObject *
rest_at(PyObject *object, PyObject *args)
{
    Rest *self = (Rest *)object;
    State *state = PyType_GetModuleState(Py_TYPE(object));
    PyObject *spots;
    long long since, until;
    unsigned int hour;
    if (state == NULL || !PyArg_ParseTuple(args, "O!LLI", state->spots, &spots, &since, &until, &hour))
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
    PyObject *rest = PyType_FromModuleAndSpec(module, &rest_spec, NULL);
    state->spots = (PyTypeObject *)PyType_FromModuleAndSpec(module, &spots_spec, NULL);
    int failed = rest == NULL || state->spots == NULL || PyModule_AddObjectRef(module, "Rest", rest) < 0 ||
                 PyModule_AddObjectRef(module, "Spots", (PyObject *)state->spots) < 0;
    Py_XDECREF(rest);
    return failed ? -1 : 0;
}

static void
module_free(void *module)
{
    State *state = PyModule_GetState(module);
    if (state != NULL)
        Py_CLEAR(state->spots);
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, module_exec}, {0, NULL}};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_spots", "Spots, in C.", sizeof(State), NULL, module_slots, NULL, NULL, module_free,
};

PyMODINIT_FUNC
PyInit__spots(void)
{
    return PyModuleDef_Init(&module);
}
