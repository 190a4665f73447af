import CLossdProto
import LossdTensor

/// Below this many names all pairs are compared, which allocates nothing; above, they are sorted,
/// so that a hostile message of 100,000 names costs no minutes.
private let pairwiseLimit = 16

/// A name that comes twice, nil when none does.
func repeatedName(
  _ count: Int, _ name: (Int) -> UnsafeRawBufferPointer
) -> UnsafeRawBufferPointer? {
  if count <= pairwiseLimit {
    for second in stride(from: 1, to: count, by: 1) {
      for first in 0..<second where sameBytes(name(first), name(second)) { return name(second) }
    }
    return nil
  }
  let sorted = (0..<count).map(name).sorted { compareBytes($0, $1) < 0 }
  for index in 1..<count where sameBytes(sorted[index - 1], sorted[index]) { return sorted[index] }
  return nil
}

/// Drops all but the last entry of each key, in place, and returns how many are left. Their order
/// is kept for few, not for many: a map has none.
func keepLastOfEachKey(
  _ entries: UnsafeMutablePointer<
    UnsafeMutablePointer<Lossd__V1__EvaluateRequest__AttributesEntry>?
  >?,
  _ count: Int
) -> Int {
  guard let entries, count > 1 else { return count }
  let key = { (index: Int) in textBytes(entries[index]?.pointee.key) }
  var kept = 0
  if count <= pairwiseLimit {
    for index in 0..<count {
      let isLast = !((index + 1)..<count).contains { sameBytes(key($0), key(index)) }
      if isLast {
        entries[kept] = entries[index]
        kept += 1
      }
    }
    return kept
  }
  let keys = (0..<count).map(key)
  let order = (0..<count).sorted { first, second in
    let difference = compareBytes(keys[first], keys[second])
    return difference != 0 ? difference < 0 : first < second
  }
  let all = (0..<count).map { entries[$0] }
  for (place, index) in order.enumerated() {
    let isLast = place + 1 == count || !sameBytes(keys[order[place + 1]], keys[index])
    if isLast {
      entries[kept] = all[index]
      kept += 1
    }
  }
  return kept
}

private func sameBytes(_ first: UnsafeRawBufferPointer, _ second: UnsafeRawBufferPointer) -> Bool {
  first.count == second.count && compareBytes(first, second) == 0
}

private func compareBytes(_ first: UnsafeRawBufferPointer, _ second: UnsafeRawBufferPointer) -> Int
{
  for index in 0..<min(first.count, second.count) where first[index] != second[index] {
    return Int(first[index]) - Int(second[index])
  }
  return first.count - second.count
}
