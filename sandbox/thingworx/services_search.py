"""Services that find Things: by tag, mask, template and query.

Documented by PTC or seen live: `maxItems` is 500 when left out and then cuts without a sign; only the
`...Optimized` services page (`offset`); the total of `...WithTotalCount` ignores both; a row of all
properties when `propertyNames` is left out; only properties of the template, not of the Thing itself; an
unknown type name makes SpotlightSearchV2 search every type. Inferred: a Thing must carry all given tags, the
order is by name unless `query` sorts, masks match the whole name, SearchModelTags without types finds every
type.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from sandbox.thingworx.infotable import Field, InfoTable, columns
from sandbox.thingworx.query import apply_query, matches_mask
from sandbox.thingworx.services import MAX_ITEMS, Call, service
from sandbox.thingworx.writes import current

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sandbox.thingworx.infotable import Tags
    from sandbox.thingworx.model import PropertyDefinition, Shape, Template, Thing
    from sandbox.thingworx.platform import Platform

__all__ = ["entity_list", "root_entity_list"]

_ENTITY_LIST: Final = columns("name description homeMashup avatar:IMAGELINK tags:TAGS isSystemObject:BOOLEAN")
_DESCRIPTOR: Final = columns("name description type id parentName parentType")
_SPOTLIGHT: Final = columns(
    "name description type id parentName parentType "
    "lastModifiedDate:DATETIME isSystemObject:BOOLEAN projectName"
)
_BASICS: Final = {f.name: f for f in _ENTITY_LIST} | {
    "lastModifiedDate": Field("lastModifiedDate", "DATETIME"),
    "thingTemplate": Field("thingTemplate", "THINGTEMPLATENAME"),
}


def _select(
    platform: Platform,
    tags: Tags,
    mask: str = "",
    *,
    template: str = "",
    identifier: str = "",
    shape: str = "",
) -> list[Thing]:
    wanted = set(tags)

    def matches(thing: Thing) -> bool:
        return (
            wanted.issubset(thing.tags)
            and (not template or template in thing.template.ancestry())
            and (not shape or thing.template.implements(shape))
            and (not mask or matches_mask(mask, thing.name))
            and (not identifier or matches_mask(identifier, thing.identifier))
        )

    return platform.select((frozenset(wanted), mask, template, identifier, shape), matches)


def _implementing(call: Call) -> list[Thing]:
    """Things of the template or ThingShape that was called."""
    template, shape = (call.entity, "") if call.collection == "ThingTemplates" else ("", call.entity)
    tags, mask = call.params.tags(), call.params.text("nameMask")
    return _select(call.platform, tags, mask, template=template, shape=shape)


def _definitions(call: Call) -> dict[str, PropertyDefinition]:
    if call.collection == "ThingShapes":
        return call.platform.shape(call.entity).definitions
    return call.template.definitions


def _basics(thing: Thing) -> dict[str, Any]:
    return {
        "name": thing.name,
        "description": thing.description,
        "tags": thing.tags,
        "isSystemObject": False,
        "thingTemplate": thing.template.name,
        "lastModifiedDate": thing.last_modified,
    }


def _descriptor(thing: Thing) -> dict[str, Any]:
    return {
        "name": thing.name,
        "description": thing.description,
        "type": "Thing",
        "id": thing.name,
        "parentName": thing.template.name,
        "parentType": "ThingTemplate",
        "lastModifiedDate": thing.last_modified,
        "isSystemObject": False,
        "projectName": thing.project,
    }


def _template_descriptor(template: Template) -> dict[str, Any]:
    parent = template.parent.name if template.parent else ""
    return {"name": template.name, "description": template.description, "type": "ThingTemplate",
            "id": template.name, "parentName": parent, "parentType": "ThingTemplate",
            "isSystemObject": True, "lastModifiedDate": template.last_modified}  # fmt: skip


def _shape_descriptor(shape: Shape) -> dict[str, Any]:
    return {"name": shape.name, "type": "ThingShape", "id": shape.name, "parentName": "",
            "isSystemObject": False, "lastModifiedDate": shape.last_modified}  # fmt: skip


def _table(fields: tuple[Field, ...], rows: Iterable[dict[str, Any]]) -> InfoTable:
    names = [f.name for f in fields]
    return InfoTable(fields, [{name: row[name] for name in names if name in row} for row in rows])


def root_entity_list(platform: Platform, tags: Tags, mask: str, limit: int) -> InfoTable:
    """Things as a RootEntityList."""
    return _table(_ENTITY_LIST, (_basics(t) for t in islice(_select(platform, tags, mask), limit)))


@service("Resources/EntityServices/GetEntityList")
def entity_list(call: Call) -> InfoTable:
    """Things, or templates when `type` says so; other types have no entities here."""
    params = call.params
    limit, mask = params.whole("maxItems", MAX_ITEMS), params.text("nameMask")
    kind = params.required("type")
    if kind == "Thing":
        return root_entity_list(call.platform, params.tags(), mask, limit)
    found = (
        [_template_descriptor(t) for t in call.platform.templates.values()] if kind == "ThingTemplate" else []
    )
    return _table(_ENTITY_LIST, [row for row in found if not mask or matches_mask(mask, row["name"])][:limit])


@service("Resources/SearchFunctions/SearchModelTags")
def search_model_tags(call: Call) -> InfoTable:
    """Entities that carry tags; only Things do here."""
    params = call.params
    types = params.items("types")
    limit = params.whole("maxItems", MAX_ITEMS)
    found = _select(call.platform, params.tags()) if not types or "Thing" in types else []
    return _table(_DESCRIPTOR, map(_descriptor, found[:limit]))


@service("Resources/SearchFunctions/SearchThings")
def search_things(call: Call) -> InfoTable:
    """One row whose cells are tables; the Things are in `commonResults` and `thingResults`."""
    params = call.params
    limit = min(params.whole("maxItems", MAX_ITEMS), params.whole("maxSearchItems", 1 << 31))
    templates = set(params.items("thingTemplates"))
    found = _select(
        call.platform,
        params.tags("modelTags"),
        params.text("searchExpression"),
        identifier=params.text("identifierSearchExpression"),
    )
    if templates:
        found = [thing for thing in found if not templates.isdisjoint(thing.template.ancestry())]
    rows = apply_query(map(_descriptor, found), params.get("query"))[:limit]
    fields = columns("commonResults:INFOTABLE thingResults:INFOTABLE")
    return InfoTable(fields, [{f.name: _table(_DESCRIPTOR, rows) for f in fields}])


@service("Resources/SearchFunctions/SpotlightSearch")
@service("Resources/SearchFunctions/SpotlightSearchV2")
def spotlight_search(call: Call) -> InfoTable:
    """Composer's search: names that match an expression, in one list."""
    params = call.params
    limit = min(params.whole("maxItems", MAX_ITEMS), params.whole("maxSearchItems", 1 << 31))
    types = {kind for kind in params.items("types") if kind in {"Thing", "ThingShape", "ThingTemplate"}}
    expression, tags = params.text("searchExpression", "*"), params.tags()
    templates, project = set(params.items("thingTemplates")), params.text("projectName")
    rows: list[dict[str, Any]] = []
    if not types or "Thing" in types:
        rows += [
            _descriptor(thing)
            for thing in _select(call.platform, tags, expression)
            if (not templates or not templates.isdisjoint(thing.template.ancestry()))
            and (not project or thing.project == project)
        ]
    if (not types or "ThingTemplate" in types) and not tags and not templates and not project:
        found = (_template_descriptor(t) for t in call.platform.templates.values())
        rows += [row for row in found if matches_mask(expression, row["name"])]
    if (not types or "ThingShape" in types) and not tags and not templates and not project:
        found = (_shape_descriptor(shape) for shape in call.platform.shapes.values())
        rows += [row for row in found if matches_mask(expression, row["name"])]
    sort = {
        "fieldName": params.text("sortBy", "name"),
        "isAscending": params.flag("isAscending", default=True),
    }
    return _table(_SPOTLIGHT, apply_query(rows, {"sorts": [sort]})[:limit])


@service("ThingShapes/QueryImplementingThings")
@service("ThingTemplates/QueryImplementingThings")
def query_implementing_things(call: Call) -> InfoTable:
    """Things of a template; cut to maxItems before sorting unless `isSortFirst`, and no paging."""
    params, query = call.params, call.params.get("query") or {}
    limit = params.whole("maxItems", MAX_ITEMS)
    found = _implementing(call)
    filters = {"filters": query.get("filters")}
    if params.flag("isSortFirst"):
        rows = apply_query(_query_rows(call, found), query)[:limit]
    else:
        kept = apply_query(_query_rows(call, found), filters)[:limit]
        rows = apply_query(kept, {"sorts": query.get("sorts")})
    return _table(_ENTITY_LIST, rows)


@service("ThingShapes/QueryImplementingThingsOptimized")
@service("ThingTemplates/QueryImplementingThingsOptimized")
def query_optimized(call: Call) -> InfoTable:
    """One page of the Things of a template."""
    return _page(call)[0]


@service("ThingShapes/QueryImplementingThingsOptimizedWithTotalCount")
@service("ThingTemplates/QueryImplementingThingsOptimizedWithTotalCount")
def query_optimized_with_total(call: Call) -> InfoTable:
    """One page, and how many there are in all."""
    page, total = _page(call)
    fields = columns("rootEntityList:INFOTABLE totalCount:NUMBER")
    return InfoTable(fields, [{"rootEntityList": page, "totalCount": total}])


def _page(call: Call) -> tuple[InfoTable, int]:
    params, query = call.params, call.params.get("query")
    start, limit = params.whole("offset", 0), params.whole("maxItems", MAX_ITEMS)
    found = _implementing(call)
    basics = params.rows("basicPropertyNames")
    names = list(_BASICS) if basics is None else [str(row.get("name")) for row in basics]
    fields = [_BASICS[name] for name in dict.fromkeys(["name", *names]) if name in _BASICS]
    wanted = params.rows("propertyNames")
    definitions = _definitions(call)
    extra = list(definitions) if wanted is None else [str(row.get("name")) for row in wanted]
    extra = [name for name in extra if name in definitions and name not in {f.name for f in fields}]
    fields += [Field(name, definitions[name].base_type) for name in extra]
    plain = not query or (not query.get("filters") and query.get("sorts") in (None, [], [_BY_NAME]))
    if plain:
        things, total = found[start : start + limit], len(found)
        rows = [_property_row(call, thing, extra) for thing in things]
    else:
        all_rows = apply_query((_property_row(call, thing, definitions) for thing in found), query)
        rows, total = all_rows[start : start + limit], len(all_rows)
    return _table(tuple(fields), rows), total


_BY_NAME: Final = {"fieldName": "name", "isAscending": True}


def _query_rows(call: Call, things: list[Thing]) -> Iterable[dict[str, Any]]:
    return (_property_row(call, thing, _definitions(call)) for thing in things)


def _property_row(call: Call, thing: Thing, names: Iterable[str]) -> dict[str, Any]:
    row = {name: current(call.platform, thing, thing.definition(name)).value for name in names}
    return row | _basics(thing)


@service("ModelTags/GetVocabularyTerms")
def vocabulary_terms(call: Call) -> InfoTable:
    """The terms of a vocabulary."""
    terms = sorted(call.platform.vocabularies[call.entity])
    return InfoTable(columns("name"), [{"name": term} for term in terms])


@service("ModelTags/GetVocabularyTermLinks")
def vocabulary_term_links(call: Call) -> InfoTable:
    """What carries a term."""
    tag = f"{call.entity}:{call.params.required('term')}"
    found = call.platform.select(("tag", tag), lambda thing: tag in thing.tags)
    return _table(_DESCRIPTOR, map(_descriptor, found[: call.params.whole("maxItems", MAX_ITEMS)]))


@service("ModelTags/AddVocabularyTerm")
def add_vocabulary_term(call: Call) -> None:
    """Add a term."""
    call.platform.vocabularies[call.entity][str(call.params.required("term"))] = None


@service("Resources/EntityServices/CreateModelTagVocabulary")
def create_vocabulary(call: Call) -> None:
    """Create a vocabulary without terms; an existing one stays as it is."""
    call.platform.vocabularies.setdefault(str(call.params.required("name")), {})
