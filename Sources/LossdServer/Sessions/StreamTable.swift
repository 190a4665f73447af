import LossdTensor

/// The open calls of a connection, sorted by their stream ids. Ids rise, so a new call is the last,
/// and the last call is looked for most. Adding, removing and finding the last one take a few
/// nanoseconds; finding another one takes a binary search. Confined to its loop's thread.
struct StreamTable {
  private struct Entry {
    let id: UInt32
    /// nil: the call has been removed, its place not yet.
    var call: StreamCall?
  }

  /// By rising ids. Calls before `head` have been removed.
  private var entries: ContiguousArray<Entry> = []
  private var head = 0
  private(set) var count = 0

  var isEmpty: Bool { count == 0 }

  /// All calls, in the order of their ids.
  var calls: [StreamCall] { entries[head...].compactMap(\.call) }

  func contains(where condition: (StreamCall) -> Bool) -> Bool {
    entries[head...].contains { $0.call.map(condition) ?? false }
  }

  subscript(_ id: UInt32) -> Unretained<StreamCall>? {
    guard let last = entries.last else { return nil }
    if last.id == id { return last.call.map { Unretained($0) } }
    return index(of: id).flatMap { entries[$0].call.map { Unretained($0) } }
  }

  /// `id` is above all ids that were ever added.
  mutating func add(_ id: UInt32, _ call: StreamCall) {
    precondition((entries.last?.id ?? 0) < id)
    entries.append(Entry(id: id, call: call))
    count += 1
  }

  /// Removes and returns the call of this id.
  mutating func remove(_ id: UInt32) -> StreamCall? {
    guard let index = index(of: id), let call = entries[index].call.take() else { return nil }
    count -= 1
    if count == 0 {
      entries.removeAll(keepingCapacity: entries.capacity <= 1024)
      head = 0
      return call
    }
    while entries[head].call == nil { head += 1 }
    while let last = entries.last, last.call == nil { entries.removeLast() }
    if entries.count > 64 && entries.count > 2 * count {
      entries.removeAll { $0.call == nil }
      head = 0
    }
    return call
  }

  private func index(of id: UInt32) -> Int? {
    if let last = entries.last, last.id == id { return entries.count - 1 }
    var low = head
    var high = entries.count
    while low < high {
      let middle = (low + high) / 2
      if entries[middle].id == id { return middle }
      if entries[middle].id < id { low = middle + 1 } else { high = middle }
    }
    return nil
  }
}
