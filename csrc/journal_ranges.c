/* journal_ranges.c: what a destination is done with: a base, and up to 64 ranges above it.
 *
 * The idea: every record below the base is done with, and so is every record in a range; ranges are in order and never touch. Samples are
 * counted once for each record, by the reason that came first. What does not fit, since acknowledgements came too much out of order,
 * waits until the base has moved.
 */
#include <assert.h>
#include <string.h>

#include "journal.h"

/* Index of the first range that begins after `sequence`. */
static size_t range_after(const bf_ranges *ranges, uint64_t sequence)
{
    size_t index = 0;
    while (index < ranges->count && ranges->ranges[index].first <= sequence) {
        index++;
    }
    return index;
}

/* Replaces the ranges from `begin` to `end` (not included) by `range`. */
static void ranges_splice(bf_ranges *ranges, size_t begin, size_t end, bf_range range)
{
    assert(begin <= end && end <= ranges->count && ranges->count - (end - begin) < BF_JOURNAL_RANGES_MAX);
    memmove(&ranges->ranges[begin + 1], &ranges->ranges[end], (ranges->count - end) * sizeof range);
    ranges->ranges[begin] = range;
    ranges->count = ranges->count - (end - begin) + 1;
}

static void ranges_remove_first(bf_ranges *ranges, size_t count)
{
    assert(count <= ranges->count);
    ranges->count -= count;
    memmove(ranges->ranges, &ranges->ranges[count], ranges->count * sizeof ranges->ranges[0]);
}

static void ranges_swallow(bf_ranges *ranges)
{
    if (ranges->count > 0 && ranges->ranges[0].first <= ranges->base) {
        ranges->base = ranges->ranges[0].last + 1;
        ranges_remove_first(ranges, 1);
    }
}

/* Adds a range whose first record is in none; false: there is no room for it. */
static bool ranges_add(bf_ranges *ranges, uint64_t first, uint64_t last)
{
    size_t index = range_after(ranges, first);
    if (first == ranges->base) { /* always fits: it is swallowed at once */
        ranges->base = last + 1;
        size_t passed = 0;
        while (passed < ranges->count && ranges->ranges[passed].first <= ranges->base) {
            ranges->base = ranges->ranges[passed].last >= ranges->base ? ranges->ranges[passed].last + 1 : ranges->base;
            passed++;
        }
        ranges_remove_first(ranges, passed);
        return true;
    }
    size_t begin = index;
    size_t end = index;
    while (end < ranges->count && ranges->ranges[end].first <= last + 1) {
        last = ranges->ranges[end].last > last ? ranges->ranges[end].last : last;
        end++;
    }
    if (index > 0 && ranges->ranges[index - 1].last + 1 == first) {
        first = ranges->ranges[index - 1].first;
        begin--;
    }
    if (begin == end && ranges->count >= BF_JOURNAL_RANGES_MAX) {
        return false;
    }
    ranges_splice(ranges, begin, end, (bf_range){first, last});
    return true;
}

uint64_t bf_ranges_sum(const bf_ranges *ranges)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < BF_JOURNAL_REASONS; i++) {
        sum += ranges->done[i];
    }
    return sum;
}

bool bf_ranges_is_done(const bf_ranges *ranges, uint64_t sequence)
{
    if (sequence < ranges->base) {
        return true;
    }
    size_t index = range_after(ranges, sequence);
    return index > 0 && sequence <= ranges->ranges[index - 1].last;
}

bool bf_ranges_undone(const bf_ranges *ranges, uint64_t *first, uint64_t *last)
{
    *first = *first > ranges->base ? *first : ranges->base;
    for (size_t i = 0; i < ranges->count; i++) {
        const bf_range *range = &ranges->ranges[i];
        if (*first < range->first) {
            *last = *last < range->first ? *last : range->first - 1;
            break;
        }
        *first = *first > range->last ? *first : range->last + 1;
    }
    return *first <= *last;
}

void bf_ranges_pass_over(bf_ranges *ranges, uint64_t first, uint64_t end)
{
    assert(first < end);
    while (ranges->count > 0 && ranges->ranges[ranges->count - 1].first >= first) {
        ranges->count--;
    }
    bf_range *last = ranges->count > 0 ? &ranges->ranges[ranges->count - 1] : NULL;
    if (ranges->base >= first) {
        ranges->base = end;
    } else if (last != NULL && last->last + 1 >= first) {
        last->last = end - 1;
    } else {
        assert(ranges->count < BF_JOURNAL_RANGES_MAX); /* the range that says so much was above `first` */
        ranges->ranges[ranges->count++] = (bf_range){first, end - 1};
    }
}

bool bf_ranges_apply(bf_ranges *ranges, uint64_t end_sequence, uint64_t samples_total)
{
    size_t kept = 0;
    bool changed = false;
    for (size_t i = 0; i < ranges->pending_count; i++) {
        bf_acknowledgement each = ranges->pending[i];
        uint64_t last = each.sequence + each.records - 1;
        if (last >= end_sequence || last < each.sequence || bf_ranges_is_done(ranges, each.sequence)) {
            continue;
        }
        if (!ranges_add(ranges, each.sequence, last)) {
            ranges->pending[kept++] = each;
            continue;
        }
        assert(each.reason < BF_JOURNAL_REASONS);
        ranges->done[each.reason] += each.samples;
        changed = true;
    }
    ranges->pending_count = kept;
    return bf_ranges_settle(ranges, end_sequence, samples_total) || changed;
}

bool bf_ranges_settle(bf_ranges *ranges, uint64_t end_sequence, uint64_t samples_total)
{
    uint64_t sum = bf_ranges_sum(ranges);
    if (ranges->base != end_sequence || sum >= samples_total) {
        return false;
    }
    ranges->done[BF_DONE_WITH_DAMAGED] += samples_total - sum; /* what damage hid is counted at the latest now */
    return true;
}

void bf_ranges_raise_base(bf_ranges *ranges, uint64_t base)
{
    if (base <= ranges->base) {
        return;
    }
    ranges->base = base;
    size_t below = 0;
    while (below < ranges->count && ranges->ranges[below].last < base) {
        below++;
    }
    ranges_remove_first(ranges, below);
    ranges_swallow(ranges);
}
