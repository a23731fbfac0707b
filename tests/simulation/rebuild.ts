/** Between two lives: databases are lost, or are not, and the data folder is rebuilt from the segments. */
import { parseSegmentFileName } from "../../src/journal/mod.ts";
import { rebuildDataFolder } from "../../src/rebuild.ts";
import { DATA_PATH, type World } from "./world.ts";

/** Loses databases for good. Whatever becomes of this life, a start without a rebuild comes too early from then on. */
export async function loseDatabases(world: World): Promise<void> {
  const { random } = world;
  world.mustRebuild = true;
  if (random.oneIn(2)) await lose(world, DATA_PATH, "catalog.sqlite");
  const losesMaps = random.oneIn(2);
  for (const folder of foldersWithSegments(world)) {
    if (losesMaps || random.oneIn(4)) await lose(world, folder, "map.sqlite");
  }
}

async function lose(world: World, folder: string, name: string): Promise<void> {
  world.note(`  ${folder}/${name} is lost`);
  world.disk.removeDatabase(`${folder}/${name}`);
  await world.until(`sync ${folder}`, world.disk.syncDirectory(folder));
}

function foldersWithSegments({ disk }: World): string[] {
  return disk.list(`${DATA_PATH}/volumes`).map((id) => `${DATA_PATH}/volumes/${id}`).filter((folder) =>
    disk.list(`${folder}/segments`).some((name) => parseSegmentFileName(name) !== undefined)
  );
}

/** Rebuilds the data folder. */
export async function rebuild(world: World): Promise<void> {
  world.disk.capacityBytes = Infinity;
  const { volumes, failed, catalog } = await world.until(
    "rebuild the data folder",
    rebuildDataFolder({ dataPath: DATA_PATH, disk: world.disk, scheduler: world.time }),
  );
  for (const { id, error } of failed) {
    // Of a volume whose creation was cut, nothing may have been told yet.
    if (world.subjects.every((subject) => subject.id !== id)) world.note(`  ${id} is not rebuilt: ${error}`);
    else world.violate(`volume ${id} is not rebuilt: ${error}`);
  }
  world.mustRebuild = false;
  world.note(`  rebuilt ${volumes.map(({ name }) => name).join(", ")}, catalogue ${catalog}`);
}
