/// The end of an error text about a name that nobody knows: `; did you mean `softmax`?`, or nothing
/// where none of `names` is near. Takes microseconds whatever the name: long ones are near to none.
public func didYouMean(_ name: String, among names: some Sequence<String>) -> String {
  nearestName(name, among: names).map { "; did you mean `\($0)`?" } ?? ""
}

/// Names longer than this, bytes, are not compared: plugin.h's names have at most 64.
private let comparedBytesMax = 64
/// More names than these are not looked at: whoever sends wrong ones is not to keep a loop busy.
private let comparedNamesMax = 256

/// The name that `name` was probably meant to be: the one with the fewest letters added, left out,
/// changed or swapped with a neighbour; nil where that is more than a third of it. Signs and
/// capitals do not count: `CrossEntropy` is `cross_entropy`. Of equally near ones it is the first.
public func nearestName(_ name: String, among names: some Sequence<String>) -> String? {
  let wanted = plain(name)
  guard !wanted.isEmpty, name.utf8.count <= comparedBytesMax else { return nil }
  var best: (name: String, distance: Int)?
  for candidate in names.prefix(comparedNamesMax) where candidate.utf8.count <= comparedBytesMax {
    let other = plain(candidate)
    let most = max(min(wanted.count, other.count) / 3, 1)
    var found = Int.max
    if wanted.count >= 3 && other.starts(with: wanted) {
      // Only its beginning: `cross` for `cross_entropy`.
      found = wanted.count == other.count ? 0 : 1
    } else if abs(wanted.count - other.count) <= most {
      found = distance(wanted, other)
    }
    if found <= most, found < wanted.count, found < best?.distance ?? .max {
      best = (candidate, found)
    }
  }
  return best?.name
}

/// Lower case without what stands between words.
private func plain(_ name: String) -> [UInt8] {
  name.utf8.compactMap { byte in
    switch byte {
    case UInt8(ascii: "A")...UInt8(ascii: "Z"): byte | 0x20
    case UInt8(ascii: "_"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: " "): nil
    default: byte
    }
  }
}

/// The optimal string alignment distance: Levenshtein's, and neighbours that are swapped count
/// once.
private func distance(_ a: [UInt8], _ b: [UInt8]) -> Int {
  var before: [Int] = []
  var previous = Array(0...b.count)
  for i in 0..<a.count {
    var row = [i + 1]
    for j in 0..<b.count {
      var cost = min(previous[j + 1] + 1, row[j] + 1, previous[j] + (a[i] == b[j] ? 0 : 1))
      if i > 0, j > 0, a[i] == b[j - 1], a[i - 1] == b[j] { cost = min(cost, before[j - 1] + 1) }
      row.append(cost)
    }
    (before, previous) = (previous, row)
  }
  return previous[b.count]
}
