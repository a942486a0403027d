/*
 * The forwarding table: longest-prefix match per Instance-ID and family.
 *
 * One hash table holds the prefixes of all lengths. A bitmap per Instance-ID and family has the lengths in use, so a
 * lookup costs one probe per length, however many entries there are. The hash table grows a little with every update,
 * so no update moves everything while packets wait. It takes 32 octets an entry and 4 a slot, with 1.5 to 4 slots an
 * entry. Looking up many addresses at once hides the latency of memory. The caller locks: lookups need the lock shared,
 * everything else needs it exclusive.
 */
#ifndef LM_TABLE_H
#define LM_TABLE_H

#include <stdatomic.h>

#include "base/address.h"
#include "base/hash.h"

struct lm_prefix {
    uint32_t instance_id;
    uint8_t length; /* bits */
    struct lm_addr address;
};

struct lm_entry {
    void *value;
    uint32_t instance_id;
    uint8_t length, kind; /* kind and value belong to the caller */
    _Atomic uint8_t used; /* set by a lookup that forwards, cleared by the report */
    struct lm_addr address;
};

struct lm_table;

struct lm_table *lm_table_new(const struct lm_key *key);
/* Makes a table of these prefixes, each with kind 0 and value NULL. NULL: out of memory. */
struct lm_table *lm_table_of(const struct lm_key *key, const struct lm_prefix *prefixes, size_t count);
/* Frees the table, not the values. */
void lm_table_free(struct lm_table *table);
size_t lm_table_count(const struct lm_table *table);

/* Returns the entry of exactly this prefix, or NULL. */
struct lm_entry *lm_table_find(const struct lm_table *table, const struct lm_prefix *prefix);
/* Returns the entry of this prefix. A new one has kind 0 and value NULL. NULL: out of memory, and nothing changed. */
struct lm_entry *lm_table_insert(struct lm_table *table, const struct lm_prefix *prefix);
/* Removes the entry of a prefix; true: there was one. */
bool lm_table_remove(struct lm_table *table, const struct lm_prefix *prefix);
/* Returns the entry of the longest prefix that contains the address, or NULL. */
struct lm_entry *lm_table_lookup(const struct lm_table *table, uint32_t instance_id, const struct lm_addr *address);

struct lm_query {
    uint32_t instance_id;
    const struct lm_addr *address;
    struct lm_entry *entry; /* the result, as of lm_table_lookup */
};
#define LM_QUERIES_MAX 64
/* Does the same for at most LM_QUERIES_MAX addresses at once. */
void lm_table_lookup_many(const struct lm_table *table, struct lm_query *queries, size_t count);
/*
 * Moves some more entries from the old array to the new one; false: none are left. While the table grows, lookups try
 * both arrays.
 */
bool lm_table_settle(struct lm_table *table);
/* Returns the number of an entry, from 0. It is constant while the entry exists, and is reused after its removal. */
uint32_t lm_table_number(const struct lm_table *table, const struct lm_entry *entry);
/* Returns the octets that the table has allocated. */
size_t lm_table_memory(const struct lm_table *table);
/* True when there is an entry of this Instance-ID. */
bool lm_table_has_instance(const struct lm_table *table, uint32_t instance_id);
/*
 * Walks all entries. Start with 0; it returns NULL after the last. Entries may move when the table changes in between.
 */
struct lm_entry *lm_table_next(const struct lm_table *table, uint32_t *cursor);

#endif
