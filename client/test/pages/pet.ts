export interface Pet {
  pet_id: number;
  user_id: number | null;
  name: string | null;
}

/** What the pages show and the tests look for. */
export function textOf(pets: Iterable<Pet>): string {
  return [...pets]
    .sort((one, other) => one.pet_id - other.pet_id)
    .map(({ pet_id, name }) => `${pet_id} ${name}`)
    .join("\n");
}
