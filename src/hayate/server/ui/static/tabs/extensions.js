// Extensions: a list that the server wrote.

export function mount() {}
