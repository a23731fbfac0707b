/**
 * Files of the past: directories, contents, versions, and what changed.
 *
 * @module
 */
import { createRoute, z } from "@hono/zod-openapi";
import type { Engine } from "../../src/engine.ts";
import { parseRange, slice } from "../byte_range.ts";
import type { ApiApp } from "../context.ts";
import { problemResponse } from "../problem.ts";
import { given, json, needs, problems } from "../route.ts";
import {
  BlockChangesSchema,
  ContentQuery,
  DeletedFilesSchema,
  DeletedQuery,
  DiffQuery,
  FileChangesSchema,
  FileListingSchema,
  FilesQuery,
  FileVersionsSchema,
  VersionsQuery,
  VolumeParams,
} from "../schemas.ts";

const list = createRoute({
  method: "get",
  path: "/v1/volumes/{volume}/files",
  operationId: "listFiles",
  summary: "A directory, or one file, of the past",
  tags: ["files"],
  ...needs("read"),
  request: { params: VolumeParams, query: FilesQuery },
  responses: { 200: json("The file, and for a directory its entries.", FileListingSchema), ...problems },
});

const bytes = { "application/octet-stream": { schema: z.string().openapi({ format: "binary" }) } };

const content = createRoute({
  method: "get",
  path: "/v1/volumes/{volume}/files/content",
  operationId: "getFileContent",
  summary: "Content of a file of the past; takes a Range of one part, and HEAD",
  tags: ["files"],
  ...needs("read"),
  request: { params: VolumeParams, query: ContentQuery },
  responses: {
    200: { description: "The whole content.", content: bytes },
    206: { description: "The part asked for.", content: bytes },
    ...problems,
  },
});

const versions = createRoute({
  method: "get",
  path: "/v1/volumes/{volume}/files/versions",
  operationId: "listFileVersions",
  summary: "Every version of one file, newest first",
  tags: ["files"],
  ...needs("read"),
  request: { params: VolumeParams, query: VersionsQuery },
  responses: { 200: json("The versions.", FileVersionsSchema), ...problems },
});

const deleted = createRoute({
  method: "get",
  path: "/v1/volumes/{volume}/files/deleted",
  operationId: "listDeletedFiles",
  summary: "Files that a directory held before a moment, and does not hold then",
  tags: ["files"],
  ...needs("read"),
  request: { params: VolumeParams, query: DeletedQuery },
  responses: { 200: json("The last version of each.", DeletedFilesSchema), ...problems },
});

const diff = createRoute({
  method: "get",
  path: "/v1/volumes/{volume}/diff",
  operationId: "listChanges",
  summary: "Blocks that were written between two moments, or files that differ",
  tags: ["files"],
  ...needs("read"),
  request: { params: VolumeParams, query: DiffQuery },
  responses: {
    200: json("Blocks, or with `files` files.", z.union([BlockChangesSchema, FileChangesSchema])),
    ...problems,
  },
});

/** Registers the routes. */
export function registerFiles(app: ApiApp, engine: Engine, closing: AbortSignal): void {
  app.openapi(versions, async (c) => {
    const { path, ...options } = c.req.valid("query");
    return c.json(await engine.listFileVersions(c.req.valid("param").volume, path, given(options)), 200);
  });

  app.openapi(deleted, async (c) => {
    const { at, path = "/", ...options } = c.req.valid("query");
    return c.json(await engine.listDeletedFiles(c.req.valid("param").volume, at, path, given(options)), 200);
  });

  app.openapi(diff, async (c) => {
    const { volume } = c.req.valid("param");
    const { files, path, offset, ...span } = c.req.valid("query");
    const changes = files === "true"
      ? await engine.listFileChanges(volume, given({ ...span, path }))
      : await engine.listBlockChanges(volume, given({ ...span, offset }));
    return c.json(changes, 200);
  });

  app.openapi(list, async (c) => {
    const { at, path = "/" } = c.req.valid("query");
    return c.json(await engine.listFiles(c.req.valid("param").volume, at, path), 200);
  });

  app.openapi(content, async (c) => {
    const { volume } = c.req.valid("param");
    const { at, path } = c.req.valid("query");
    const { file, seq, body } = await engine.readFile(volume, at, path);
    const isHead = c.req.method === "HEAD";
    // A moment never changes, so its sequence names the content for good.
    const etag = `"${engine.getVolume(volume).id}-${seq}"`;
    const ifRange = c.req.header("if-range");
    const range = ifRange === undefined || ifRange === etag
      ? parseRange(c.req.header("range"), file.sizeBytes)
      : undefined;
    if (isHead || range === "unsatisfiable") await body.cancel();
    if (range === "unsatisfiable") {
      return problemResponse(
        "out-of-range",
        `Reading the Range header: the file has ${file.sizeBytes} bytes`,
        {
          headers: { "content-range": `bytes */${file.sizeBytes}` },
        },
      );
    }
    const headers = {
      "content-type": "application/octet-stream",
      "content-length": String(range?.length ?? file.sizeBytes),
      "content-disposition": contentDisposition(file.name),
      "accept-ranges": "bytes",
      "last-modified": new Date(file.modifiedAt).toUTCString(),
      etag,
      ...(range === undefined ? {} : {
        "content-range": `bytes ${range.offset}-${range.offset + range.length - 1}/${file.sizeBytes}`,
      }),
    };
    const part = range === undefined ? body : slice(body, range);
    const stream = isHead ? null : part.pipeThrough(new TransformStream(), { signal: closing });
    return new Response(stream, { status: range === undefined ? 200 : 206, headers });
  });
}

/** `attachment` with the name in both forms of RFC 6266. */
function contentDisposition(name: string): string {
  const ascii = name.replaceAll(/[^\x20-\x7e]|["\\%]/g, "_");
  const encoded = encodeURIComponent(name.toWellFormed()).replaceAll(
    /['()*]/g,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`,
  );
  return `attachment; filename="${ascii}"; filename*=UTF-8''${encoded}`;
}
