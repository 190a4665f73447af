import LossdKernelTable
import LossdKernels
import LossdPluginKit
import LossdTensor

/// A function of rows of one to three tensors: sums over pairs of rows, then a result of these sums, then gradients whose
/// elements are those of the rows times numbers of the row. How rows are found, converted, broadcast, cut and added up is
/// written once, in the extensions of this protocol.
protocol RowFunction: Function where State == RowPlan {
  /// Where tensors are in the declaration.
  static var places: RowPlaces { get }

  /// The value of a row and the factors of its gradients. `scale` is what the gradients are multiplied by.
  static func result(
    _ numbers: borrowing RowNumbers, _ state: borrowing RowPlan, label: Double, scale: Double
  ) -> RowResult

  /// What output `places.goals[index]` is made of, an operand's shape.
  static func goal(_ index: Int) -> RowGoal
}

extension RowFunction {
  /// Without a term of a pair that this call does not have.
  static func goal(_ index: Int, _ state: RowPlan) -> RowGoal {
    var goal = goal(index)
    if let pair = goal.second?.pair, pair >= state.pairCount { goal.second = nil }
    return goal
  }
}

struct RowPlaces {
  /// The first inputs; of `normalize` the upstream gradient, too, which may be missing.
  var operands: Int
  /// An input of one number a row.
  var label: Int? = nil
  /// nil where it is an operand.
  var upstream: Int?
  /// One value a row; nil: there is none.
  var value: Int? = 0
  /// Results like an operand.
  var firstGoal: Int
  var goals: Int
  var isLoss = false
}

/// What is added up over a row of `x` and `y`, operands' numbers; `y` is -1 where there is none.
struct RowPair: BitwiseCopyable {
  var x = 0
  var y = -1
  /// Products, or the norm of the differences.
  var isNorm = true
}

/// The sums of one row, where the kernels have left them.
struct RowNumbers {
  let sums: UnsafePointer<Double>
  /// nil: one each.
  let tieCounts: UnsafePointer<Double>?
  /// From one sum to the next.
  let room: Int

  /// The products x x, x y and y y of each pair, or its norm.
  @inline(__always)
  func sum(_ index: Int) -> Double { sums[index * room] }

  @inline(__always)
  func norm(_ pair: Int) -> Double { sum(3 * pair) }

  @inline(__always)
  func ties(_ pair: Int) -> Double { tieCounts?[pair * room] ?? 1 }
}

struct RowResult {
  var value = 0.0
  /// Two for each goal.
  var factors = InlineArray<6, Double>(repeating: 0)
}

/// A factor times the elements of operand `x`, or times the norm's slopes of a pair.
struct GoalTerm {
  var x: Int
  var y = -1
  /// The pair whose norm's slope is meant; nil: the elements themselves.
  var pair: Int?
}

struct RowGoal {
  /// Whose shape it has.
  var operand: Int
  var first: GoalTerm
  var second: GoalTerm?
}

/// What `plan` tells `run`.
struct RowPlan: BitwiseCopyable {
  enum Way: BitwiseCopyable {
    /// The kernels take rows where they lie, one after the other.
    case contiguous
    /// The same, rows next to one another.
    case columns
    /// Rows are gathered in tiles, a part of one at a time.
    case gathered
  }

  var space: RowSpace
  var pairs = InlineArray<3, RowPair>(repeating: RowPair())
  var pairCount = 1
  var norm = Norm(2)
  /// Added to the differences; and what the function keeps there: eps, a margin.
  var shift = 0.0
  var constants = InlineArray<2, Double>(repeating: 0)
  /// One row stands for all, which have no elements.
  var isOneForAll = false
  // Set by `planRows`:
  var way = Way.gathered
  /// Whether results like operands are wanted, and so the rows' factors.
  var hasGoals = false
  /// In float64, by no kernel.
  var isScalar = false
  /// Rows that are computed together.
  var batch = 1
  /// Elements of a row that are.
  var segment = RowPlan.tileElements
  var units = RowUnits(rows: 1, size: 1, inner: 1)
  /// Whether any goal is summed over repetitions, from the rows' factors in the workspace.
  var keepsFactors = false
  /// The passes of these goals, -1 for one that has none.
  var passes = InlineArray<3, Int>(repeating: -1)

  static let tileElements = 2048

  init(_ space: RowSpace) { self.space = space }

  var room: Int { batch + SummedRows.padding }

  /// Rows that are computed: of those without elements one may stand for all.
  var rows: Int { isOneForAll ? min(space.rows, 1) : space.rows }

  /// The elements that a pair is summed over: one where both operands have one.
  func length(_ pair: RowPair) -> Int {
    let isOne = space.isOneForRow(pair.x) && (pair.y < 0 || space.isOneForRow(pair.y))
    return isOne ? min(space.length, 1) : space.length
  }
}
