"""Compiled assignment of sites to sites where few pairs are allowed."""
# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

from numba import njit


@njit(cache=True, nogil=True)
def assign_nearest(n, first, partner, cost, row_of, column_of):
    """Give every row its cheapest column.

    The allowed columns of row ``i`` are ``partner[first[i] : first[i + 1]]``, at least one.
    Fills ``column_of`` with the places among these, and ``row_of`` with the last row that took
    each column, -1 for none.

    Returns whether no column is taken twice; then this is the cheapest assignment.
    """
    distinct = True
    for j in range(n):
        row_of[j] = -1
    for i in range(n):
        best = first[i]
        for place in range(first[i] + 1, first[i + 1]):
            if cost[place] < cost[best]:
                best = place
        column_of[i] = best
        if row_of[partner[best]] >= 0:
            distinct = False
        row_of[partner[best]] = i
    return distinct


@njit(cache=True, nogil=True)
def assign_cheapest(n, first, partner, cost, row_of, column_of, work, marks):
    """Find the assignment of least total cost after `assign_nearest`, by shortest augmenting paths.

    Rows and columns carry potentials that make every allowed pair cost at least nothing and every
    chosen pair nothing; each row that is left gets its column along the cheapest path of changes
    (Edmonds & Karp, doi:10.1145/321694.321699; Crouse, doi:10.1109/TAES.2016.140952).

    Args:
        n: rows, and columns.
        first: int64 (n + 1,), see `assign_nearest`.
        partner: int64 (pairs,), allowed columns.
        cost: float64 (pairs,).
        row_of: int64 (n,), filled.
        column_of: int64 (n,), filled with places among the pairs.
        work: float64 (3, n), to work in.
        marks: int64 (4, n), to work in.

    Returns whether there is an assignment of every row.
    """
    of_row, of_column, reach = work[0], work[1], work[2]
    came_by, came_from, seen, done = marks[0], marks[1], marks[2], marks[3]
    for i in range(n):
        of_row[i] = cost[column_of[i]]
        of_column[i] = 0.0
        seen[i] = -1
        done[i] = -1
        row_of[i] = -1
    for i in range(n):
        j = partner[column_of[i]]
        if row_of[j] < 0:
            row_of[j] = i
        else:
            column_of[i] = -1
    for start in range(n):
        if column_of[start] >= 0:
            continue
        row = start
        least = 0.0
        while True:
            for place in range(first[row], first[row + 1]):
                j = partner[place]
                if done[j] == start:
                    continue
                length = least + cost[place] - of_row[row] - of_column[j]
                if seen[j] != start or length < reach[j]:
                    seen[j] = start
                    reach[j] = length
                    came_by[j] = place
                    came_from[j] = row
            chosen = -1
            for j in range(n):
                if seen[j] != start or done[j] == start:
                    continue
                if (
                    chosen < 0
                    or reach[j] < reach[chosen]
                    or (reach[j] == reach[chosen] and row_of[j] < 0)
                ):
                    chosen = j
            if chosen < 0:
                return False
            least = reach[chosen]
            done[chosen] = start
            row = row_of[chosen]
            if row < 0:
                break
        of_row[start] += least
        for j in range(n):
            if done[j] == start and row_of[j] >= 0:
                of_row[row_of[j]] += least - reach[j]
                of_column[j] -= least - reach[j]
        # Walk back: each column on the way goes to the row that reached it.
        j = chosen
        while True:
            row = came_from[j]
            before = column_of[row]
            column_of[row] = came_by[j]
            row_of[j] = row
            if row == start:
                break
            j = partner[before]
    return True
