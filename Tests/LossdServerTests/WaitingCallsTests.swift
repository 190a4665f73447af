import LossdCatalogue
import LossdEngine
import Testing

@testable import LossdServer

@Suite struct WaitingCallsTests {
  private let entry: FunctionEntry
  private let users = (0..<3).map { _ in WorkGroup() }

  init() throws {
    let registry = Registry()
    try registry.add(cataloguePlugin())
    entry = try #require(registry.table.entries.first)
  }

  private func call(_ user: Int) -> ForeignCall {
    ForeignCall(
      .finish(Accumulator()), Evaluation(entry), users[user], deadline: .max
    ) { _ in }
  }

  @Test("a call that is taken is let go of at once, with all that its request holds")
  func lettingGo() {
    var line = WaitingCalls()
    // Fewer than half of a line are taken: the line is as long as before.
    var waiting = (0..<200).map { _ in call(0) }
    for call in waiting { line.append(call) }
    weak var next: ForeignCall?
    weak var removed: ForeignCall?
    weak var unwanted: ForeignCall?
    do {
      next = line.next { _ in true }
      #expect(next === waiting[0])
      let chosen = waiting[150]
      unwanted = line.next { $0 === chosen }
      #expect(unwanted === chosen)
      removed = waiting[77]
      let isRemoved = line.remove(waiting[77])
      #expect(isRemoved)
    }
    for place in [150, 77, 0] { waiting.remove(at: place) }
    #expect(next == nil && unwanted == nil && removed == nil)
    #expect(line.takeAll().count == 197)
  }

  @Test("users take turns, and each user's calls keep their order, whatever is taken in between")
  func order() {
    var numbers = Numbers(seed)
    for _ in 0..<50 {
      var line = WaitingCalls()
      // What `WaitingCalls` is to do, done simply: the user in turn first.
      var model: [(user: Int, calls: [ForeignCall])] = []
      func add(_ call: ForeignCall, _ user: Int, first: Bool) {
        let index = model.firstIndex { $0.user == user }
        if first {
          let calls = index.map { model.remove(at: $0).calls } ?? []
          model.insert((user, [call] + calls), at: 0)
        } else if let index {
          model[index].calls.append(call)
        } else {
          model.append((user, [call]))
        }
      }
      for _ in 0..<1000 {
        let user = Int.random(in: 0..<users.count, using: &numbers)
        let new = call(user)
        switch Int.random(in: 0..<16, using: &numbers) {
        case 0..<8:
          line.append(new)
          add(new, user, first: false)
        case 8:
          line.putFirst(new)
          add(new, user, first: true)
        case 9..<12:
          let isThere = line.remove(new)
          #expect(!isThere, "seed \(seed)")
          guard let calls = model.randomElement(using: &numbers) else { continue }
          guard let taken = calls.calls.randomElement(using: &numbers) else { continue }
          let removals = [line.remove(taken), line.remove(taken)]
          #expect(removals == [true, false], "seed \(seed)")
          for index in model.indices { model[index].calls.removeAll { $0 === taken } }
          model.removeAll { $0.calls.isEmpty }
        default:
          let least = Int.random(in: 0..<3, using: &numbers)
          // A call that its process alone may take is passed over.
          let isWanted = { (call: ForeignCall) in
            ObjectIdentifier(call).hashValue % 3 != least
          }
          var expected: ForeignCall?
          for index in model.indices {
            guard let place = model[index].calls.firstIndex(where: isWanted) else { continue }
            var entry = model.remove(at: index)
            expected = entry.calls.remove(at: place)
            if !entry.calls.isEmpty { model.append(entry) }
            break
          }
          let next = line.next(where: isWanted)
          #expect(next === expected, "seed \(seed)")
        }
        #expect(line.isEmpty == model.isEmpty, "seed \(seed)")
      }
      let left = line.takeAll()
      #expect(left.elementsEqual(model.flatMap(\.calls)) { $0 === $1 }, "seed \(seed)")
      #expect(line.isEmpty && left.allSatisfy { $0.waitingNumber == nil })
    }
  }
}
